/** BLKIF_OP_*: the operations of io/blkif.h. */
export const BlkifOp = {
  /** BLKIF_OP_READ: 1 to 11 segments. */
  read: 0,
  /** BLKIF_OP_WRITE: 1 to 11 segments. It may stay in a volatile cache until a flush. */
  write: 1,
  /** BLKIF_OP_WRITE_BARRIER: 0 to 11 segments. Earlier writes are done before it, later ones after it. */
  writeBarrier: 2,
  /** BLKIF_OP_FLUSH_DISKCACHE: 0 to 11 segments. What is in a volatile cache is flushed, then its data is written. */
  flushDiskcache: 3,
  /** BLKIF_OP_RESERVED_1: the packet command of SLES, answered as an unknown operation is. */
  reserved1: 4,
  /** BLKIF_OP_DISCARD: a range and a flag instead of segments (`struct blkif_request_discard`). */
  discard: 5,
  /** BLKIF_OP_INDIRECT: a read or write whose segments are in pages of their own (`struct blkif_request_indirect`). */
  indirect: 6,
} as const;

/** BLKIF_RSP_*: the status of a response, a signed 16-bit number. */
export const BlkifStatus = {
  /** BLKIF_RSP_OKAY. */
  okay: 0,
  /** BLKIF_RSP_ERROR: failed or malformed; the protocol does not say more. */
  error: -1,
  /** BLKIF_RSP_EOPNOTSUPP: the backend does not know the operation, or its storage cannot do it. */
  eopnotsupp: -2,
} as const;

/** VDISK_*: the bits of the backend's `info` key. */
export const VdiskInfo = {
  /** VDISK_CDROM. */
  cdrom: 1,
  /** VDISK_REMOVABLE: the medium can be changed. */
  removable: 2,
  /** VDISK_READONLY: writes are refused. */
  readOnly: 4,
} as const;

/** BLKIF_DISCARD_SECURE: the flag of a discard request that asks for the data to be unrecoverable. */
export const DISCARD_SECURE = 1;

/** Bytes of a sector in every quantity of the protocol, whatever the disk's `sector-size`. */
export const SECTOR_SIZE = 512;

/** Sectors of a granted page: a segment's first and last sector are 0 to 7. */
export const SECTORS_PER_PAGE = 8;

/** Segments of a direct request (BLKIF_MAX_SEGMENTS_PER_REQUEST). */
export const MAX_SEGMENTS = 11;

/** Grant references of an indirect request (BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST). */
export const MAX_INDIRECT_PAGES = 8;

/** Segments of 8 bytes in a page of an indirect request. */
export const SEGMENTS_PER_INDIRECT_PAGE = 512;

/** The largest `ring-page-order` that Linux and QEMU know. */
export const MAX_RING_PAGE_ORDER = 4;

/** Slots of a ring of 2^order pages: the same for every ABI. */
export function ringSlotsForOrder(order: number): number {
  return 32 << order;
}
