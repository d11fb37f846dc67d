import type { Abi } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import type { DiskGeometry, OnError } from '../../disk-description.js';
import type { XenBlockError } from '../../errors.js';
import type { RingCounters } from '../accounting/ring-counters.js';
import type { JournalOptions } from '../journal/adopt-ring.js';

/** A request that the storage failed. */
export interface StorageFailure {
  /** The guest's operation; for an indirect request the inner one. */
  readonly operation: number;
  /** Positive. */
  readonly errno: number;
  /** Bytes in the image. */
  readonly offset: number;
  /** Bytes; 0 for a flush of no data. */
  readonly length: number;
}

/** A request that has killed earlier processes. */
export interface GivenUpRequest {
  /** The guest's operation; for an indirect request the inner one. */
  readonly operation: number;
  /** As the guest wrote it, in 512-byte units. */
  readonly sector: number;
}

/** What a ring tells the device that it belongs to. */
export interface RingListener {
  /** The frontend sent a request that was refused (a `BadRequest`); `count` of that reason since it was last told. */
  badRequest(reason: number, count: number): void;
  /** The storage has no such operation after all: the feature should be taken back. */
  unsupported(operation: number): void;
  /** The storage failed `count` requests since this was last told, at most once a second; `failure` is the last. */
  storageError(failure: StorageFailure, count: number): void;
  /**
   * `count` requests of an earlier process, of which `request` is one, were answered with an error since this was last
   * told, at most once a second: two processes have died while their own code worked on each.
   */
  gaveUp(request: GivenUpRequest, count: number): void;
  /** The ring was served, and is attached without what its journal should tell: `reason` in words. */
  journalDropped(reason: string): void;
  /** The ring keeps the request that the storage failed, and takes no more: the disk is to be stopped. */
  stopped(failure: StorageFailure): void;
  /** Nothing is served any more: the frontend's producer index is impossible. */
  broken(error: XenBlockError): void;
}

/** `copy` through our own memory, by the hypervisor; or `map`: the storage works on the guest's own pages. */
export type DataPath = 'copy' | 'map';

/** What a data plane needs to serve one ring. */
export interface RingOptions {
  /** For messages: `qdisk-5-51712/0`. */
  readonly name: string;
  /** The same for all rings of a disk, which have one share of memory; `name` when not given. */
  readonly disk?: string | undefined;
  /** The frontend's domain: it has granted `refs` and owns `eventChannel`. */
  readonly domid: number;
  /** Grant references of the ring's pages, in order. */
  readonly refs: Uint32Array;
  /** The frontend's event channel. */
  readonly eventChannel: number;
  /** The layout of requests and responses that the frontend's `protocol` names. */
  readonly abi: Abi;
  /** What requests are checked against, until `setGeometry` changes it. */
  readonly geometry: DiskGeometry;
  /** Absent for an empty drive. */
  readonly image: BlockImage | undefined;
  /** How data gets between the guest's pages and the storage; `copy` when not given. */
  readonly dataPath?: DataPath | undefined;
  /** With `map`: guest pages that stay mapped, because the frontend granted them for good. 0 when not given. */
  readonly persistentPages?: number | undefined;
  /** Keeps the requests in flight for another process; none when not given. */
  readonly journal?: JournalOptions | undefined;
  /** What is done when the storage fails a request; `report` when not given. */
  readonly onError?: OnError | undefined;
  /** Counters to go on with, as those of a connection before; new ones when not given. */
  readonly counters?: RingCounters | undefined;
  /** Budgets that the ring keeps to, see `Budget`; none when not given. */
  readonly budgets?: readonly SharedArrayBuffer[] | undefined;
  /** True: nothing is taken before the first `resume`, nor is what a journal has carried out. */
  readonly paused?: boolean | undefined;
  /** Told of what the frontend and the storage do wrong, on the thread that called `attach`. */
  readonly listener: RingListener;
}
