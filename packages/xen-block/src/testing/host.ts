import { Blkfront, type BlkfrontOptions } from '@xenpv/blkfront';
import { type BlockImage, memoryImage } from '@xenpv/blockdev';
import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { XenBlockBackend } from '../backend.js';
import type { BlockDevice } from '../disk/disk.js';
import type { DiskConfig } from '../disk-description.js';
import type { XenBlockBackendOptions } from '../options.js';

type DiskOptions = Partial<Parameters<EmulatedHost['toolstack']['attachDisk']>[1]>;

/** A guest of a {@link TestHost} and its connection to xenstored. */
export interface TestGuest {
  readonly domid: number;
  readonly store: XenstoreClient;
  /** Attaches xvda, unless told otherwise, and connects to it. */
  connect(options?: Partial<BlkfrontOptions>, disk?: DiskOptions): Promise<Blkfront>;
  /** Only the frontend's part, for a disk that is attached. */
  reconnect(options?: Partial<BlkfrontOptions>): Promise<Blkfront>;
  attach(disk?: DiskOptions): Promise<string>;
  detach(vdev?: string): Promise<void>;
  destroy(): Promise<void>;
}

/** An embedded Xen with the backend under test in domain 0. */
export class TestHost implements AsyncDisposable {
  readonly xen: EmulatedHost;
  readonly store: XenstoreClient;
  readonly images = new Map<string, () => Promise<BlockImage> | BlockImage>();
  backend!: XenBlockBackend;
  readonly #options: Partial<XenBlockBackendOptions>;
  readonly #guests: TestGuest[] = [];

  private constructor(xen: EmulatedHost, options: Partial<XenBlockBackendOptions>) {
    this.xen = xen;
    this.store = XenstoreClient.open(xen.xenstored.connect(0));
    this.#options = options;
  }

  /** `images` by target; a target that is not there is a memory image of 1 MiB. */
  static async start(options: Partial<XenBlockBackendOptions> = {}): Promise<TestHost> {
    const host = new TestHost(await EmulatedHost.create(), options);
    await host.startBackend();
    return host;
  }

  async startBackend(options: Partial<XenBlockBackendOptions> = {}): Promise<void> {
    this.backend = await XenBlockBackend.start({
      provider: this.xen.provider(0),
      store: this.store,
      openImage: async (config: DiskConfig) => this.#open(config),
      ...this.#options,
      ...options,
    });
  }

  #open(config: DiskConfig): Promise<BlockImage> | BlockImage {
    const open = this.images.get(config.target);
    return open ? open() : memoryImage({ size: 1024 * 1024, readOnly: config.readOnly });
  }

  get device(): BlockDevice {
    return [...this.backend.devices][0];
  }

  async guest(): Promise<TestGuest> {
    return this.guestOf(await this.xen.createDomain({ name: 'guest', memoryMiB: 128 }));
  }

  guestOf(domain: EmulatedDomain): TestGuest {
    const store = XenstoreClient.open(this.xen.xenstored.connect(domain.domid));
    const { toolstack } = this.xen;
    const guest: TestGuest = {
      domid: domain.domid,
      store,
      attach: async (disk = {}) =>
        (await toolstack.attachDisk(domain.domid, { vdev: 'xvda', target: 'disk', ...disk })).backendPath,
      connect: async (options = {}, disk = {}) => {
        await guest.attach(disk);
        return guest.reconnect({ vdev: disk.vdev ?? 'xvda', ...options });
      },
      reconnect: (options = {}) => Blkfront.connect({ provider: domain.provider, store, vdev: 'xvda', ...options }),
      detach: (vdev = 'xvda') => toolstack.detachDisk(domain.domid, vdev),
      destroy: () => domain.destroy(),
    };
    this.#guests.push(guest);
    return guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.backend.close();
    await Promise.all(this.#guests.map((guest) => guest.store.close()));
    await this.store.close();
    await this.xen.close();
  }
}
