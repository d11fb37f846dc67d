export { BackRing } from './back-ring.js';
export { ByteRing } from './byte-ring.js';
export { RingError, type RingErrorCode } from './errors.js';
export { describeFlexRing, FlexRing, flexRingSize, initFlexRing } from './flex-ring.js';
export { FrontRing } from './front-ring.js';
export { type ByteRingLayout, CONSOLE_RING, RING_HEADER_BYTES, XENSTORE_RING } from './layout.js';
export { type RingMemory, ringSlots } from './memory.js';
