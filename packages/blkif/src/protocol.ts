/** BLKIF_OP_*: the operations of io/blkif.h. 4 was SLES's packet command and is answered as unknown. */
export const BlkifOp = {
  read: 0,
  write: 1,
  writeBarrier: 2,
  flushDiskcache: 3,
  reserved1: 4,
  discard: 5,
  indirect: 6,
} as const;

/** BLKIF_RSP_*: the status of a response, a signed 16-bit number. */
export const BlkifStatus = { okay: 0, error: -1, eopnotsupp: -2 } as const;

/** VDISK_*: the bits of the backend's `info` key. */
export const VdiskInfo = { cdrom: 1, removable: 2, readOnly: 4 } as const;

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
