import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { BlkfrontOptions, LoadOptions, LoadResult } from '@xenpv/blkfront';
import type { BlockImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import { XenBlockBackend } from '@xenpv/xen-block';
import { XenstoreClient } from '@xenpv/xenstore';
import { inTurns } from '../program/in-turns.js';
import type { GuestAsk, GuestStart, StormOptions } from '../threads/embedded-guest.js';

/** Numbers of the extended range, see xen-vbd-interface(7). */
const FIRST_DEVID = 2 ** 28;
const DEVID_STEP = 256;

/** An embedded host whose backend, on this thread, serves one kind of image. */
export class BenchHost {
  readonly xen: EmulatedHost;
  readonly backend: XenBlockBackend;
  readonly #store: XenstoreClient;

  private constructor(xen: EmulatedHost, backend: XenBlockBackend, store: XenstoreClient) {
    this.xen = xen;
    this.backend = backend;
    this.#store = store;
  }

  /**
   * `openImage` is told the disk's target, `disk` unless {@link BenchGuest.connect} was given another. With `directory` the
   * host is one that other processes can join.
   */
  static async start(
    openImage: (target: string) => Promise<BlockImage> | BlockImage,
    directory?: string,
  ): Promise<BenchHost> {
    // A guest with hundreds of disks needs more than a domain usually may.
    const quotas = { nodes: 100_000, watches: 10_000 };
    const xen = await EmulatedHost.create({ memoryMiB: 16, xenstored: { quotas }, directory });
    const store = XenstoreClient.open(await xen.provider(0).connectXenstore());
    const backend = await XenBlockBackend.start({
      provider: xen.provider(0),
      store,
      openImage: async ({ target }) => openImage(target),
    });
    return new BenchHost(xen, backend, store);
  }

  async startGuest(memoryMiB = 256): Promise<BenchGuest> {
    const domain = await this.xen.createDomain({ name: 'guest', memoryMiB });
    return new BenchGuest(this.xen, domain.domid, { data: domain.share().data });
  }

  async close(): Promise<void> {
    await this.backend.close();
    await this.#store.close();
    await this.xen.close();
  }
}

/** A guest on a thread of its own. */
export class BenchGuest {
  readonly #xen: EmulatedHost;
  readonly #domid: number;
  readonly #worker: Worker;
  #disks = 0;

  constructor(xen: EmulatedHost, domid: number, workerData: GuestStart) {
    this.#xen = xen;
    this.#domid = domid;
    this.#worker = new Worker(new URL('./threads/embedded-guest.js', import.meta.url), { workerData });
  }

  /** Attaches `count` disks and connects to them. */
  async connect(count: number, options: Partial<BlkfrontOptions>, target = 'disk'): Promise<void> {
    const first = this.#disks;
    this.#disks += count;
    const numbers = Array.from({ length: count }, (_, i) => first + i);
    const vdevs = numbers.map((n) => `${FIRST_DEVID + n * DEVID_STEP}`);
    await inTurns(vdevs, (vdev) => this.#xen.toolstack.attachDisk(this.#domid, { vdev, target }));
    await this.#ask({ ask: 'connect', devids: numbers.map((n) => FIRST_DEVID + n * DEVID_STEP), options });
  }

  load(options: LoadOptions): Promise<LoadResult> {
    return this.#ask({ ask: 'load', options }) as Promise<LoadResult>;
  }

  /** Keeps requests in flight until {@link kill}. */
  begin(options: StormOptions): Promise<unknown> {
    return this.#ask({ ask: 'storm', options });
  }

  /** Ends its thread, whatever it does. */
  async kill(): Promise<void> {
    await this.#worker.terminate();
  }

  async close(): Promise<void> {
    await this.#ask({ ask: 'close' });
    await this.#worker.terminate();
  }

  #ask(message: GuestAsk): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const settle = (reply: { value?: unknown; error?: string }) => {
        this.#worker.off('error', reject);
        if (reply.error === undefined) resolve(reply.value);
        else reject(new Error(reply.error));
      };
      this.#worker.once('message', settle);
      this.#worker.once('error', reject);
      this.#worker.postMessage(message);
    });
  }
}

/** Processor seconds, user and system, that this process's main thread has used: hundredths, from /proc. */
export function mainThreadSeconds(): number {
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
