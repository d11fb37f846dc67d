import { Worker } from 'node:worker_threads';
import type { BlockImage } from '@xenpv/blockdev';
import type { XenProvider } from '@xenpv/xen-sys';
import { errorMessage } from '@xenpv/xenbus';
import { failedChannel, overlookedChannel } from '../diagnostics.js';
import { XenBlockError } from '../errors.js';
import { packageRoot } from '../package-root.js';
import { RingCounters } from '../plane/accounting/ring-counters.js';
import type { DataPlaneOptions, DetachedRing, KeptRequests, ServedRing } from '../plane/data-plane.js';
import type { RingListener, RingOptions, StorageFailure } from '../plane/rings/ring-options.js';
import type { AttachedRing, ImageToShare, WorkerReply, WorkerRequest, WorkerStart, WorkerValue } from './messages.js';
import type { RingHost } from './ring-host.js';

/** A request without its id, for each kind of it. */
type Ask = WorkerRequest extends infer R ? (R extends WorkerRequest ? Omit<R, 'id'> : never) : never;

interface Waiter {
  resolve(value: WorkerValue | undefined): void;
  reject(error: Error): void;
}

const imageKeys = new WeakMap<BlockImage, number>();
let nextImageKey = 1;

/** A data plane on a thread of its own (QEMU's iothread): it opens the image and Xen's devices there once more. */
export class WorkerRingHost implements RingHost {
  readonly #worker: Worker;
  readonly #waiters = new Map<number, Waiter>();
  readonly #listeners = new Map<number, RingListener>();
  /** By ring: restarts that the thread has not done yet. */
  readonly #restarts = new Map<number, number>();
  /** By ring that is detached: called when the storage has ended all of its requests. */
  readonly #ends = new Map<number, () => void>();
  #nextId = 1;
  #nextRing = 1;
  #rings = 0;
  #dead: XenBlockError | undefined;
  #isReady = false;
  readonly #onLost: (error: XenBlockError) => void;
  #closing: Promise<void> | undefined;

  private constructor(worker: Worker, onLost: (error: XenBlockError) => void) {
    this.#worker = worker;
    this.#onLost = onLost;
  }

  /**
   * Resolves when the thread has opened its handles. Rejects when it cannot. `onLost` is called when the thread ends by
   * itself later: what its rings had in flight is then done by nobody, and only the end of the process ends it for sure.
   */
  static async start(
    provider: XenProvider,
    options: DataPlaneOptions,
    onLost: (error: XenBlockError) => void,
  ): Promise<WorkerRingHost> {
    const workerData: WorkerStart = {
      role: 'xen-block data plane',
      provider: provider.share(),
      options: { ...options },
    };
    const worker = new Worker(new URL('dist/worker.js', packageRoot()), { workerData, name: 'xen-block' });
    const host = new WorkerRingHost(worker, onLost);
    await host.#started();
    return host;
  }

  get ringCount(): number {
    return this.#rings;
  }

  /** Only images that can be opened on another thread can be served here. */
  accepts(image: BlockImage | undefined): boolean {
    return this.#dead === undefined && (image === undefined || image.share() !== undefined);
  }

  /** Serves a ring on the thread. Rejects when it cannot be mapped or bound. */
  async attach(options: RingOptions): Promise<ServedRing> {
    const ring = this.#nextRing++;
    const { abi, image, counters = new RingCounters(), listener, ...rest } = options;
    this.#listeners.set(ring, listener);
    this.#rings++;
    try {
      const shared = { ...rest, ring, abi: abi.name, image: shareImage(image), counters: counters.buffer };
      const attached = await this.#ask({ do: 'attach', options: shared });
      return this.#served(ring, attached as AttachedRing);
    } catch (error) {
      this.#forget(ring);
      throw error;
    }
  }

  /** Resolves when the thread has answered: one that is stuck never does. Rejects when it has ended. */
  async ping(): Promise<void> {
    await this.#ask({ do: 'ping' });
  }

  /** Ends the plane and its thread. Harmless when repeated. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #started(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#worker.on('message', (reply: WorkerReply) => {
        if ('event' in reply && reply.event === 'ready') {
          this.#isReady = true;
          resolve();
        } else this.#receive(reply);
      });
      this.#worker.once('error', (error) => {
        this.#died(error);
        reject(error);
      });
      this.#worker.once('exit', (code) => {
        const error = new Error(`it exited with code ${code}`);
        this.#died(error);
        reject(error);
      });
    });
  }

  #served(ring: number, attached: AttachedRing): ServedRing {
    let detaching: Promise<DetachedRing> | undefined;
    /** The thread knows nothing of a ring that was detached. */
    const ask = async (request: Ask) => void (detaching ?? (await this.#ask(request)));
    const tell = (request: Ask) => void (detaching ?? this.#tell(request));
    return {
      ...attached,
      pause: () => ask({ do: 'pause', ring }),
      resume: () => tell({ do: 'resume', ring }),
      setGeometry: (geometry) => ask({ do: 'setGeometry', ring, geometry }),
      setImage: async (image) => ask({ do: 'setImage', ring, image: shareImage(image) }),
      stop: () => tell({ do: 'stop', ring }),
      restart: () => this.#restart(ring),
      setTrace: (trace) => ask({ do: 'setTrace', ring, trace }),
      // It can only fail by the thread's death, which is told.
      setOnError: (policy) => ask({ do: 'setOnError', ring, policy }).catch(() => {}),
      detach: (kept) => {
        detaching ??= this.#detach(ring, kept);
        return detaching;
      },
    };
  }

  async #detach(ring: number, kept: KeptRequests): Promise<DetachedRing> {
    const ended = new Promise<void>((resolve) => this.#ends.set(ring, resolve));
    const inFlight = (await this.#ask({ do: 'detach', ring, kept })) as number;
    this.#forget(ring);
    if (inFlight === 0) this.#ended(ring);
    return { inFlight, ended };
  }

  #ended(ring: number): void {
    this.#ends.get(ring)?.();
    this.#ends.delete(ring);
  }

  async #restart(ring: number): Promise<void> {
    this.#restarts.set(ring, (this.#restarts.get(ring) ?? 0) + 1);
    // It can only fail by the thread's death, which is told.
    await this.#ask({ do: 'restart', ring }).catch(() => {});
    const left = this.#restarts.get(ring)! - 1;
    if (left > 0) this.#restarts.set(ring, left);
    else this.#restarts.delete(ring);
  }

  #forget(ring: number): void {
    if (this.#listeners.delete(ring)) this.#rings--;
  }

  #ask(request: Ask): Promise<WorkerValue | undefined> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#worker.postMessage({ ...request, id });
    });
  }

  /** An ask whose failure can only be the thread's death, which is told. */
  #tell(request: Ask): void {
    this.#ask(request).catch(() => {});
  }

  #receive(reply: WorkerReply): void {
    if ('event' in reply) {
      if (reply.event !== 'ready') this.#dispatch(reply);
      return;
    }
    const waiter = this.#waiters.get(reply.id);
    this.#waiters.delete(reply.id);
    const { error } = reply;
    if (error) waiter?.reject(new XenBlockError(error.code, 'connect', error.message, { path: error.path }));
    else waiter?.resolve(reply.value);
  }

  #dispatch(reply: Exclude<Extract<WorkerReply, { event: string }>, { event: 'ready' }>): void {
    if (reply.event === 'overlooked') {
      overlookedChannel.publish(reply.overlooked);
      return;
    }
    if (reply.event === 'failed') {
      const { ring, error, count } = reply;
      failedChannel.publish({ ring, error: new XenBlockError(error.code, 'serve', error.message), count });
      return;
    }
    if (reply.event === 'ended') {
      this.#ended(reply.ring);
      return;
    }
    const listener = this.#listeners.get(reply.ring);
    if (reply.event === 'badRequest') listener?.badRequest(reply.reason, reply.count);
    else if (reply.event === 'unsupported') listener?.unsupported(reply.operation);
    else if (reply.event === 'storageError') listener?.storageError(reply.failure, reply.count);
    else if (reply.event === 'gaveUp') listener?.gaveUp(reply.request, reply.count);
    else if (reply.event === 'journalDropped') listener?.journalDropped(reply.reason);
    else if (reply.event === 'stopped') this.#stopped(reply.ring, reply.failure);
    else listener?.broken(new XenBlockError(reply.error.code, 'serve', reply.error.message));
  }

  /** A ring that is being restarted does what it keeps again: that it has stopped before is over. */
  #stopped(ring: number, failure: StorageFailure): void {
    if (!this.#restarts.has(ring)) this.#listeners.get(ring)?.stopped(failure);
  }

  /** The thread is gone: whoever waits is told, and whoever decides about the process. The frontends did nothing. */
  #died(cause: unknown): void {
    if (this.#dead) return;
    const message = `a thread that serves rings has ended: ${errorMessage(cause)}`;
    this.#dead = new XenBlockError('EIO', 'serve', message, { cause });
    for (const waiter of this.#waiters.values()) waiter.reject(this.#dead);
    this.#waiters.clear();
    if (this.#isReady && !this.#closing) this.#onLost(this.#dead);
  }

  async #close(): Promise<void> {
    if (this.#dead) return;
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    await this.#ask({ do: 'close' });
    await exited;
  }
}

function shareImage(image: BlockImage | undefined): ImageToShare | undefined {
  if (!image) return undefined;
  const shared = image.share();
  if (!shared) {
    throw new XenBlockError('ENOTSUP', 'connect', `${image.description} cannot be opened on another thread`);
  }
  let key = imageKeys.get(image);
  if (key === undefined) imageKeys.set(image, (key = nextImageKey++));
  return { key, image: shared };
}
