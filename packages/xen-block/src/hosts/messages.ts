import type { AbiName } from '@xenpv/blkif';
import type { SharedImage } from '@xenpv/blockdev';
import type { SharedProvider } from '@xenpv/xen-sys';
import type { RingOverlookedEvent } from '../diagnostics.js';
import type { DiskGeometry, OnError } from '../disk-description.js';
import type { XenBlockErrorCode } from '../errors.js';
import type { DataPlaneOptions, KeptRequests, ServedRing } from '../plane/data-plane.js';
import type { GivenUpRequest, RingOptions, StorageFailure } from '../plane/rings/ring-options.js';

/** What a worker thread is started with. */
export interface WorkerStart {
  /** Tells a thread that is a data plane's from one that only imports its module. */
  readonly role: 'xen-block data plane';
  readonly provider: SharedProvider;
  readonly options: DataPlaneOptions;
}

/** An image as it goes to a worker: the worker opens one with the same key only once. */
export interface ImageToShare {
  readonly key: number;
  readonly image: SharedImage;
}

/** {@link RingOptions} as they go to a worker. `ring` is how messages name it. */
export interface RingToServe extends Omit<RingOptions, 'abi' | 'image' | 'counters' | 'listener'> {
  readonly ring: number;
  readonly abi: AbiName;
  readonly image: ImageToShare | undefined;
  readonly counters: SharedArrayBuffer;
}

/** What a worker is asked; each is answered with its id. */
export type WorkerRequest = { readonly id: number } & (
  | { readonly do: 'attach'; readonly options: RingToServe }
  | { readonly do: 'pause' | 'resume' | 'stop' | 'restart'; readonly ring: number }
  | { readonly do: 'detach'; readonly ring: number; readonly kept: KeptRequests }
  | { readonly do: 'setOnError'; readonly ring: number; readonly policy: OnError }
  | { readonly do: 'setTrace'; readonly ring: number; readonly trace: SharedArrayBuffer | undefined }
  | { readonly do: 'setGeometry'; readonly ring: number; readonly geometry: DiskGeometry }
  | { readonly do: 'setImage'; readonly ring: number; readonly image: ImageToShare | undefined }
  | { readonly do: 'ping' | 'close' }
);

/** Errors cross threads as plain data: classes do not survive the clone. */
export interface PlainError {
  readonly code: XenBlockErrorCode;
  readonly message: string;
  readonly path?: string | undefined;
}

/** What a ring is once it is attached. */
export type AttachedRing = Pick<ServedRing, 'size' | 'recovered'>;

/** What a worker answers: to `attach`, and to `detach` the requests that the storage has still. */
export type WorkerValue = AttachedRing | number;

export type WorkerReply =
  | { readonly id: number; readonly value?: WorkerValue; readonly error?: PlainError }
  | { readonly event: 'ready' }
  | { readonly event: 'badRequest'; readonly ring: number; readonly reason: number; readonly count: number }
  | {
      readonly event: 'storageError';
      readonly ring: number;
      readonly failure: StorageFailure;
      readonly count: number;
    }
  | { readonly event: 'gaveUp'; readonly ring: number; readonly request: GivenUpRequest; readonly count: number }
  | { readonly event: 'journalDropped'; readonly ring: number; readonly reason: string }
  | { readonly event: 'stopped'; readonly ring: number; readonly failure: StorageFailure }
  | { readonly event: 'ended'; readonly ring: number }
  | { readonly event: 'unsupported'; readonly ring: number; readonly operation: number }
  | { readonly event: 'broken'; readonly ring: number; readonly error: PlainError }
  | { readonly event: 'overlooked'; readonly overlooked: RingOverlookedEvent }
  | { readonly event: 'failed'; readonly ring: string | undefined; readonly error: PlainError; readonly count: number };
