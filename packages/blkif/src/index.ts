export { ABIS, type Abi, type AbiName, abiOfProtocol } from './abi.js';
export type { Gref } from './gref.js';
export {
  formatKeys,
  type KeyField,
  type KeySchema,
  type KeyValues,
  type PublishedValues,
  parseKey,
  parseKeys,
} from './key-values.js';
export {
  backendKeys,
  deviceKeys,
  frontendKeys,
  frontendToolstackKeys,
  isConnectionKey,
  queueDirectory,
  queueKeys,
  ringKeys,
  ringRefKeys,
  toolstackKeys,
  transportKeys,
} from './keys.js';
export {
  BlkifOp,
  BlkifStatus,
  DISCARD_SECURE,
  MAX_INDIRECT_PAGES,
  MAX_RING_PAGE_ORDER,
  MAX_SEGMENTS,
  ringSlotsForOrder,
  SECTOR_SIZE,
  SECTORS_PER_PAGE,
  SEGMENTS_PER_INDIRECT_PAGE,
  VdiskInfo,
} from './protocol.js';
export {
  discardFlag,
  discardSectors,
  indirectGref,
  indirectHandle,
  indirectNrSegments,
  indirectOperation,
  requestHandle,
  requestIdHigh,
  requestIdLow,
  requestNrSegments,
  requestOperation,
  requestSector,
} from './request.js';
export { RequestWriter } from './request-writer.js';
export {
  encodeResponse,
  responseIdHigh,
  responseIdLow,
  responseOperation,
  responseStatus,
} from './response.js';
export { encodeSegment, SEGMENT_WORDS, segmentFirst, segmentGref, segmentLast } from './segment.js';
export {
  decodeVdev,
  formatVdev,
  parseVdev,
  type Vdev,
  VdevError,
  type VdevErrorCode,
  type VdevErrorOp,
  type VdevKind,
  vdevOfDisk,
} from './vdev.js';
