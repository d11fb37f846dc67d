export { BackRing } from './back-ring.js';
export { RingError, type RingErrorCode } from './errors.js';
export { describeFlexRing, FlexRing, flexRingSize, initFlexRing } from './flex-ring.js';
export { FrontRing } from './front-ring.js';
export { RING_HEADER_BYTES, type RingMemory, ringSlots } from './memory.js';
