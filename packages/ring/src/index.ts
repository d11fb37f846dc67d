export { BackRing } from './back-ring.js';
export { type ByteReader, ByteRing, type ByteWriter } from './byte-ring.js';
export { RingError, type RingErrorCode, type RingErrorOp } from './errors.js';
export {
  DISPLAY_EVENT_PAGE,
  type EventPageLayout,
  EventRing,
  FRAMEBUFFER_PAGE,
  KEYBOARD_PAGE,
  SOUND_EVENT_PAGE,
} from './event-ring.js';
export { describeFlexRing, FlexRing, flexRingSize, initFlexRing } from './flex-ring.js';
export { FrontRing } from './front-ring.js';
export {
  type ByteRingLayout,
  CONSOLE_RING,
  FLEX_INTERFACE,
  PVCALLS_ERRORS,
  RING_HEADER_BYTES,
  XENSTORE_RING,
} from './layout.js';
export { type RingMemory, ringSlots } from './memory.js';
