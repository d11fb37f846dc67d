import type { AbiName } from '@xenpv/blkif';
import type { Domid, XenProvider } from '@xenpv/xen-sys';
import type { XenstoreClient } from '@xenpv/xenstore';

/** Ways of connecting that a backend must stand, and nobody wants. */
export interface BlkfrontTestingOptions {
  /** Whether the `protocol` key is written; without it a backend on x86 takes x86_32. Default true. */
  readonly announceProtocol?: boolean | undefined;
  /**
   * Whether InitWait is waited for. Without it the rings are published at once, one of one page, as some frontends do
   * when they resume. Default true.
   */
  readonly waitForInitWait?: boolean | undefined;
}

/** How a {@link Blkfront} connects. What is left out is as Linux's blkfront does it by default. */
export interface BlkfrontOptions {
  /** The guest's own view of Xen; it must have a grant allocator. Left open by {@link Blkfront.close}. */
  readonly provider: XenProvider;
  /** The guest's xenstore. Left open too. */
  readonly store: XenstoreClient;
  /** The guest's domain, where `store` is another's (tests in dom0). Absent: paths are relative to the guest's home. */
  readonly domid?: Domid | undefined;
  /** The disk by name or number, see parseVdev of @xenpv/blkif: this, or `devid`. */
  readonly vdev?: string | undefined;
  /** The disk by its number in `device/vbd/<devid>`. */
  readonly devid?: number | undefined;
  /** The layout of requests; x86_64 by default. */
  readonly abi?: AbiName | undefined;
  /** log2 of the ring's pages; the backend's maximum, but at most this. Default 4. */
  readonly ringPageOrder?: number | undefined;
  /** Writes `num-ring-pages`, the older spelling, instead of `ring-page-order`. Default false. */
  readonly legacyRingPages?: boolean | undefined;
  /** Rings; the backend's maximum, but at most this. Default 1. */
  readonly queues?: number | undefined;
  /** Lets the backend keep the data pages mapped, when it wants to. Default false. */
  readonly persistent?: boolean | undefined;
  /** Segments of an indirect request; the backend's maximum, but at most this. 0: none are used. Default 32. */
  readonly maxIndirectSegments?: number | undefined;
  /** Data pages of each queue, at most. Default: as many as all requests of a ring need, but at most 2048. */
  readonly poolPages?: number | undefined;
  /** Tells that the disk has another size now, in bytes. */
  readonly onResize?: ((size: number) => void) | undefined;
  /** How long closing waits for a backend that does not answer, in milliseconds. Default 5000. */
  readonly closeTimeoutMs?: number | undefined;
  /** Gives up the handshake. */
  readonly signal?: AbortSignal | undefined;
  /** For tests of backends: what other frontends do differently. */
  readonly testing?: BlkfrontTestingOptions | undefined;
}
