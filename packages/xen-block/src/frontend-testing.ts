import { type BlockImage, memoryImage } from '@xenpv/blockdev';
import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { XenBlockBackend, type XenBlockBackendOptions } from './backend.js';
import { Blkfront, type BlkfrontOptions } from './frontend.js';

/** A disk attached to a guest of an emulated host, the real backend serving it: what the tests of the frontend need. */
export interface TestDisk extends AsyncDisposable {
  readonly host: EmulatedHost;
  readonly guest: EmulatedDomain;
  /** The one that serves now. */
  readonly backend: XenBlockBackend;
  /** Domain 0's. */
  readonly store: XenstoreClient;
  /** Everything of the backend's gone, its nodes left Connected; and another in its place. */
  restartBackend(): Promise<void>;
  /** The guest's. */
  readonly guestStore: XenstoreClient;
  readonly frontendPath: string;
  readonly backendPath: string;
  connect(options?: Partial<BlkfrontOptions>): Promise<Blkfront>;
}

export interface TestDiskOptions {
  readonly image?: BlockImage;
  readonly readOnly?: boolean;
  readonly backend?: Partial<XenBlockBackendOptions>;
}

/** An attached xvda of 4 MiB unless an image is given. */
export async function attachTestDisk(options: TestDiskOptions = {}): Promise<TestDisk> {
  const host = await EmulatedHost.create({ toolstackTimeoutMs: 2000 });
  const image = options.image ?? memoryImage({ size: 4 << 20 });
  const provider = host.provider();
  const store = XenstoreClient.open(await provider.connectXenstore());
  const startBackend = () =>
    XenBlockBackend.start({ provider, store, openImage: async () => image, ...options.backend });
  let backend = await startBackend();
  const guest = await host.createDomain({ name: 'guest' });
  const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
  const readOnly = options.readOnly ?? false;
  const disk = await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/image', readOnly });
  return {
    host,
    guest,
    get backend() {
      return backend;
    },
    store,
    async restartBackend() {
      await backend.close();
      backend = await startBackend();
    },
    guestStore,
    frontendPath: disk.frontendPath,
    backendPath: disk.backendPath,
    connect: (more) => Blkfront.connect({ provider: guest.provider, store: guestStore, vdev: 'xvda', ...more }),
    async [Symbol.asyncDispose]() {
      await backend.close();
      await guestStore.close();
      await store.close();
      await host.close();
    },
  };
}
