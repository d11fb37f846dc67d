import { existsSync } from 'node:fs';
import type { BlockImage } from '@xenpv/blockdev';
import type { BackendContext } from '@xenpv/xenbus';
import { errorMessage } from '@xenpv/xenbus';
import { journalFailedChannel, journalMadeChannel } from '../diagnostics.js';
import type { DiskGeometry, OnError } from '../disk-description.js';
import { codeOf, XenBlockError } from '../errors.js';
import { chooseHost, type RingHost, type RingHosts } from '../hosts/ring-host.js';
import { RequestAges } from '../plane/accounting/request-ages.js';
import { RingCounters } from '../plane/accounting/ring-counters.js';
import { type DiskStatistics, readStatistics } from '../plane/accounting/statistics.js';
import type { DetachedRing, KeptRequests, ServedRing } from '../plane/data-plane.js';
import type { JournalOptions } from '../plane/journal/adopt-ring.js';
import { canCreateJournalFile } from '../plane/journal/journal-file.js';
import { journalBytes } from '../plane/journal/layout.js';
import { journalPath } from '../plane/journal/ring-journal.js';
import { removeJournalsOf } from '../plane/journal/stale-journals.js';
import type { DataPath, RingListener, RingOptions } from '../plane/rings/ring-options.js';
import type { Negotiated } from './negotiation.js';
import { type DiskTrace, DiskTracing } from './tracing.js';

/** How data gets to the storage, see {@link DataPath}. */
export interface DataPathChoice {
  /** For frontends without persistent grants. */
  readonly dataPath: DataPath;
  /** Pages of each ring that may stay mapped; above 0 persistent grants are offered. */
  readonly persistentPages: number;
}

export interface DiskRingsOptions {
  /**
   * Each ring goes to the worker with the fewest rings that can serve its image; without such a worker it is served
   * locally.
   */
  readonly hosts: RingHosts;
  /** A folder for the journals of the rings; none are kept when not given. */
  readonly journalDirectory?: string | undefined;
}

/** Whether an earlier process served this very connection, and what is done about a journal of it that is lost. */
export type TakeOver = Pick<JournalOptions, 'adopt' | 'whenLost'>;

/** What the rings of a disk are to serve. */
export interface ServedDisk {
  readonly negotiated: Negotiated;
  readonly geometry: DiskGeometry;
  /** Absent for an empty drive. */
  readonly image: BlockImage | undefined;
  readonly onError: OnError;
  readonly dataPath: DataPathChoice;
  /** What the rings keep to together. */
  readonly budgets: readonly SharedArrayBuffer[];
}

/** The rings of one disk, each at a host, with counters that outlast them. */
export class DiskRings {
  readonly #context: BackendContext;
  readonly #options: DiskRingsOptions;
  readonly #listener: RingListener;
  readonly #counters: RingCounters[] = [];
  readonly #ages: RequestAges[] = [];
  readonly #tracing = new DiskTracing(() => this.#applyTracing());
  #rings: ServedRing[] = [];
  /** Where each is served. */
  #hosts: RingHost[] = [];
  /** Queues that are served without the journal that they should have, which was told. */
  readonly #unnoted = new Set<number>();
  /** Pauses of the disk that were not ended: what rings that are attached meanwhile begin with. */
  #pauses = 0;
  /** Resolves when the rings that are being attached are so, and idle if the disk is paused; or undefined. */
  #admitting: Promise<unknown> | undefined;

  constructor(context: BackendContext, options: DiskRingsOptions, listener: RingListener) {
    this.#context = context;
    this.#options = options;
    this.#listener = listener;
  }

  /** How many are attached. */
  get count(): number {
    return this.#rings.length;
  }

  /** Slots of each ring. */
  get slots(): number {
    return this.#rings[0].size;
  }

  /** Requests of an earlier process that the attached rings carry out again, or have. */
  get recovered(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.recovered, 0);
  }

  /** What the requests of all queues do from then on, over all connections. */
  trace(signal: AbortSignal | undefined): Promise<DiskTrace> {
    return this.#tracing.open(signal);
  }

  /** The disk is gone, and with it its traces. */
  endTraces(): void {
    this.#tracing.end();
  }

  /** A ring that is attached is paused until it has it. One whose thread is gone is told of in another way. */
  async #applyTracing(): Promise<void> {
    const settings = this.#rings.map((ring, queue) => ring.setTrace(this.#tracing.memoryOf(queue)));
    await Promise.allSettled(settings);
  }

  statistics(): DiskStatistics {
    return readStatistics(this.#counters.map((counters) => counters.buffer));
  }

  /** To be called now and then: what is taken from now on counts as younger than what was taken. */
  nextSpan(now: number): void {
    for (const ages of this.#ages) ages.nextSpan(now);
  }

  /** Milliseconds that the oldest request is in flight, short by the time between two calls of `nextSpan`. */
  oldestRequest(now: number): number {
    return Math.max(0, ...this.#ages.map((ages) => ages.oldest(now)));
  }

  /** Attaches all rings or none: then each is as the last process left it. */
  async attach(disk: ServedDisk, taking: TakeOver): Promise<void> {
    await this.#admit(async () => {
      const attached: ServedRing[] = [];
      const hosts: RingHost[] = [];
      try {
        for (let queue = 0; queue < disk.negotiated.rings.length; queue++) {
          hosts[queue] = chooseHost(this.#options.hosts, disk.image);
          attached.push(await this.#attachRing(hosts[queue], disk, queue, taking));
        }
      } catch (cause) {
        await Promise.all(attached.map((ring) => ring.detach(taking.adopt ? 'leave' : 'fail')));
        throw ringError(cause, attached.length);
      }
      this.#rings = attached;
      void this.#applyTracing();
      this.#hosts = hosts;
      return attached;
    });
  }

  async detach(kept: KeptRequests): Promise<DetachedRing> {
    const rings = this.#rings;
    this.#rings = [];
    this.#unnoted.clear();
    const detached = await Promise.all(rings.map((ring) => ring.detach(kept)));
    return {
      inFlight: detached.reduce((sum, { inFlight }) => sum + inFlight, 0),
      ended: Promise.all(detached.map(({ ended }) => ended)).then(() => {}),
    };
  }

  /** What any process has noted of connections of this device goes. Only without rings. */
  async removeJournals(): Promise<void> {
    const { journalDirectory } = this.#options;
    if (journalDirectory !== undefined) await removeJournalsOf(journalDirectory, this.#context.name);
  }

  /** Nothing more is taken until {@link restart}. */
  stop(): void {
    for (const ring of this.#rings) ring.stop();
  }

  /** Kept requests are done again, and more is taken. */
  async restart(): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.restart()));
  }

  async setOnError(policy: OnError): Promise<void> {
    await Promise.all(this.#rings.map((ring) => ring.setOnError(policy)));
  }

  /**
   * Detaches a ring and attaches it at another host, or again where it was when that one cannot have it. Rejects then,
   * with {@link RingLostError} when the old one cannot have it again either. Rejects with EBUSY when the disk is stopped
   * by an error of its storage, if only now: nothing is changed.
   */
  async move(queue: number, host: RingHost, disk: ServedDisk, isStopped: () => boolean): Promise<void> {
    const ring = this.#rings[queue];
    await ring.pause();
    if (isStopped()) {
      ring.resume();
      const text = `queue ${queue} keeps requests that the storage failed; resume the disk first`;
      throw new XenBlockError('EBUSY', 'move', text);
    }
    await ring.detach('leave');
    try {
      await this.#attachAt(queue, host, disk);
    } catch (cause) {
      await this.#attachAt(queue, this.#hosts[queue], disk).catch((again) => {
        throw new RingLostError(ringError(again, queue));
      });
      throw ringError(cause, queue);
    }
  }

  /**
   * Queues that are without a journal and could have one now: there is room again, or the folder is back. They get it by
   * a {@link move} to where they are. A journal whose file somebody has removed is told of here.
   */
  queuesToNote({ abi }: Negotiated): number[] {
    const { journalDirectory } = this.#options;
    if (journalDirectory === undefined) return [];
    const queues = [...this.#rings.keys()];
    for (const queue of queues) {
      const path = this.#journalPath(journalDirectory, queue);
      if (this.#unnoted.has(queue) || existsSync(path)) continue;
      this.#tellUnnoted(queue, new XenBlockError('ERR_JOURNAL', 'serve', `${path} was removed`, { path }));
    }
    return queues.filter((queue) => {
      if (!this.#unnoted.has(queue)) return false;
      const bytes = journalBytes({ slots: this.#rings[queue].size, slotWords: abi.slotWords });
      return canCreateJournalFile(this.#journalPath(journalDirectory, queue), bytes);
    });
  }

  /** Where a queue is served. */
  hostOf(queue: number): RingHost {
    return this.#hosts[queue];
  }

  #attachAt(queue: number, host: RingHost, disk: ServedDisk): Promise<void> {
    return this.#admit(async () => {
      const ring = await this.#attachRing(host, disk, queue, { adopt: false });
      this.#rings[queue] = ring;
      this.#hosts[queue] = host;
      void this.#applyTracing();
      return [ring];
    });
  }

  /**
   * Rings are attached paused. When they are among the disk's, which `attach` sees to, they get the disk's pauses, and
   * the first one is ended: nobody's pause or resume passes between.
   */
  async #admit(attach: () => Promise<readonly ServedRing[]>): Promise<void> {
    const admitted = attach().then((rings) => ({ idle: Promise.all(rings.map((ring) => this.#begin(ring))) }));
    const admitting = admitted.then(({ idle }) => idle).catch(() => {});
    this.#admitting = admitting;
    void admitting.then(() => {
      if (this.#admitting === admitting) this.#admitting = undefined;
    });
    await admitted;
  }

  async #begin(ring: ServedRing): Promise<void> {
    const idle = Array.from({ length: this.#pauses }, () => ring.pause());
    ring.resume();
    await Promise.all(idle);
  }

  has(queue: number): boolean {
    return this.#rings[queue] !== undefined;
  }

  /** Of these rings, and of all that are attached before `resume`. Resolves when all taken requests are answered. */
  async pause(): Promise<void> {
    this.#pauses++;
    await Promise.all([...this.#rings.map((ring) => ring.pause()), this.#admitting]);
  }

  /** Ends a pause, also one that was rejected. Harmless when there is none. */
  resume(): void {
    if (this.#pauses === 0) return;
    this.#pauses--;
    for (const ring of this.#rings) ring.resume();
  }

  /** Resolves when all rings have it; one whose thread is gone is told of in another way. */
  async setGeometry(geometry: DiskGeometry): Promise<void> {
    await Promise.allSettled(this.#rings.map((ring) => ring.setGeometry(geometry)));
  }

  /** The rings must be paused. Rejects when one cannot have the image; some have it then. */
  async setImage(image: BlockImage | undefined): Promise<void> {
    const settings = await Promise.allSettled(this.#rings.map((ring) => ring.setImage(image)));
    const failed = settings.find((setting) => setting.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** Serving without a journal is better than not serving. */
  async #attachRing(host: RingHost, disk: ServedDisk, queue: number, taking: TakeOver): Promise<ServedRing> {
    const options = this.#ringOptions(disk, queue);
    const { journalDirectory } = this.#options;
    if (journalDirectory === undefined) return host.attach(options);
    const path = this.#journalPath(journalDirectory, queue);
    try {
      const ring = await host.attach({ ...options, journal: { path, ...taking } });
      if (this.#unnoted.delete(queue)) journalMadeChannel.publish({ address: this.#context.address, queue });
      return ring;
    } catch (error) {
      if (codeOf(error) !== 'ERR_JOURNAL') throw error;
      this.#tellUnnoted(queue, error as Error);
      return host.attach(options);
    }
  }

  #tellUnnoted(queue: number, error: Error): void {
    this.#unnoted.add(queue);
    journalFailedChannel.publish({ address: this.#context.address, queue, error });
  }

  #journalPath(directory: string, queue: number): string {
    return journalPath(directory, this.#context.name, queue);
  }

  #ringOptions({ negotiated, geometry, image, onError, dataPath, budgets }: ServedDisk, queue: number): RingOptions {
    const { address, name } = this.#context;
    const counters = (this.#counters[queue] ??= new RingCounters());
    this.#ages[queue] ??= new RequestAges(counters.buffer);
    return {
      ...negotiated.rings[queue],
      name: `${name}/${queue}`,
      disk: name,
      domid: address.domid,
      abi: negotiated.abi,
      geometry,
      image,
      onError,
      counters,
      budgets,
      listener: this.#listener,
      paused: true,
      ...dataPathFor(negotiated, dataPath),
    };
  }
}

/** A ring is served nowhere any more. */
export class RingLostError extends Error {
  override readonly cause: XenBlockError;

  constructor(cause: XenBlockError) {
    super(cause.message);
    this.cause = cause;
  }
}

/** What a frontend gets of what is offered. */
export function dataPathFor({ persistent }: Negotiated, offered: DataPathChoice): DataPathChoice {
  const { dataPath, persistentPages } = offered;
  if (persistent && persistentPages > 0) return { dataPath: 'map', persistentPages };
  return { dataPath, persistentPages: 0 };
}

/** A ring that the frontend described wrongly, in terms of its keys. */
function ringError(cause: unknown, queue: number): XenBlockError {
  if (cause instanceof XenBlockError && cause.code === 'ERR_JOURNAL_LOST') return cause;
  const text = `ring ${queue} of the frontend cannot be used: ${errorMessage(cause)}`;
  return new XenBlockError(codeOf(cause), 'connect', text, { cause });
}
