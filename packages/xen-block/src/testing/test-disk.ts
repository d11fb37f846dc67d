import type { Blkfront, BlkfrontOptions } from '@xenpv/blkfront';
import { type BlockImage, memoryImage } from '@xenpv/blockdev';
import type { EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { XenBlockBackend } from '../backend.js';
import type { XenBlockBackendOptions } from '../options.js';
import { TestHost } from './host.js';

/** A disk attached to a guest of an emulated host, the real backend serving it: what the tests of the frontend need. */
export interface TestDisk extends AsyncDisposable {
  readonly host: EmulatedHost;
  readonly guest: EmulatedDomain;
  /** The one that serves now. */
  readonly backend: XenBlockBackend;
  /** Domain 0's. */
  readonly store: XenstoreClient;
  readonly frontendPath: string;
  readonly backendPath: string;
  connect(options?: Partial<BlkfrontOptions>): Promise<Blkfront>;
  /** Everything of the backend's gone, its nodes left Connected; and another in its place. */
  restartBackend(options?: Partial<XenBlockBackendOptions>): Promise<void>;
}

export interface TestDiskOptions {
  readonly image?: BlockImage;
  readonly readOnly?: boolean;
  readonly backend?: Partial<XenBlockBackendOptions>;
}

/** An attached xvda of 4 MiB unless an image is given. */
export async function attachTestDisk(options: TestDiskOptions = {}): Promise<TestDisk> {
  const { image = memoryImage({ size: 4 << 20 }), readOnly = false, backend = {} } = options;
  const test = await TestHost.start({ openImage: async () => image, ...backend });
  const guest = await test.guest();
  const backendPath = await guest.attach({ readOnly });
  const [domain] = test.xen.domains;
  return {
    host: test.xen,
    guest: domain,
    get backend() {
      return test.backend;
    },
    store: test.store,
    frontendPath: `/local/domain/${guest.domid}/device/vbd/51712`,
    backendPath,
    connect: (more) => guest.reconnect(more),
    async restartBackend(more) {
      await test.backend.close();
      await test.startBackend(more);
    },
    [Symbol.asyncDispose]: () => test[Symbol.asyncDispose](),
  };
}
