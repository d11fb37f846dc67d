import { BlkifStatus } from '@xenpv/blkif';

/** Why a request was refused. 0 is not a reason. */
export const BadRequest = {
  unknownOperation: 1,
  noSegments: 2,
  tooManySegments: 3,
  badSegment: 4,
  badIndirectOperation: 5,
  indirectUnsupported: 6,
  readOnly: 7,
  beyondEnd: 8,
  misaligned: 9,
  discardUnsupported: 10,
  flushUnsupported: 11,
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
