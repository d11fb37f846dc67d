import { BlkifStatus } from '@xenpv/blkif';

/** Why a request was refused. 0 is not a reason. The answer is BLKIF_RSP_ERROR where nothing else is said. */
export const BadRequest = {
  /** `operation` is none that is served; BLKIF_RSP_EOPNOTSUPP. */
  unknownOperation: 1,
  /** `nr_segments` of a read or write is 0. */
  noSegments: 2,
  /** `nr_segments` is above 11, or for an indirect request above `feature-max-indirect-segments`. */
  tooManySegments: 3,
  /** `last_sect` is above 7, or below `first_sect`. */
  badSegment: 4,
  /** `indirect_op` is neither BLKIF_OP_READ nor BLKIF_OP_WRITE. */
  badIndirectOperation: 5,
  /** An indirect request, though `feature-max-indirect-segments` is 0. */
  indirectUnsupported: 6,
  /** A change of a disk whose `info` has VDISK_READONLY. */
  readOnly: 7,
  /** The range ends beyond `sectors`. */
  beyondEnd: 8,
  /** The range, or a segment of it, is not a multiple of `sector-size`. */
  misaligned: 9,
  /** A discard, though `feature-discard` is 0; BLKIF_RSP_EOPNOTSUPP. */
  discardUnsupported: 10,
  /** A flush or barrier, though `feature-flush-cache` and `feature-barrier` are 0; BLKIF_RSP_EOPNOTSUPP. */
  flushUnsupported: 11,
  /** A grant reference whose page cannot be copied or mapped. */
  badGrant: 12,
} as const;
export type BadRequest = (typeof BadRequest)[keyof typeof BadRequest];

const TEXTS: Record<BadRequest, string> = {
  [BadRequest.unknownOperation]: 'unknown operation',
  [BadRequest.noSegments]: 'read or write of no segments',
  [BadRequest.tooManySegments]: 'too many segments',
  [BadRequest.badSegment]: 'segment that leaves its page',
  [BadRequest.badIndirectOperation]: 'indirect operation other than read and write',
  [BadRequest.indirectUnsupported]: 'indirect request though none were offered',
  [BadRequest.readOnly]: 'write to a read-only disk',
  [BadRequest.beyondEnd]: 'access beyond the end of the disk',
  [BadRequest.misaligned]: 'range that is not a multiple of the sector size',
  [BadRequest.discardUnsupported]: 'discard though the storage has none',
  [BadRequest.flushUnsupported]: 'flush though the storage has none',
  [BadRequest.badGrant]: 'grant that cannot be used',
};

/** The number of reasons, 0 included. */
export const BAD_REQUESTS = 13;

/** A reason in words, for the log. */
export function badRequestText(reason: BadRequest): string {
  return TEXTS[reason];
}

/** What the protocol answers: EOPNOTSUPP for what is not offered, so that frontends stop asking; otherwise ERROR. */
export function badRequestStatus(reason: BadRequest): number {
  switch (reason) {
    case BadRequest.unknownOperation:
    case BadRequest.discardUnsupported:
    case BadRequest.flushUnsupported:
      return BlkifStatus.eopnotsupp;
    default:
      return BlkifStatus.error;
  }
}
