export { attachImage } from './attach.js';
export {
  type BlockFeatures,
  type BlockImage,
  BlockOp,
  type BlockQueue,
  type CompletionListener,
  IOV_WORDS,
  type SharedImage,
} from './block-image.js';
export { BlockDeviceError } from './errors.js';
export type { EngineFallback } from './fallback.js';
export { type Fault, type FaultPlan, faultyImage } from './faulty-image.js';
export { type FileEngine, FileImage, type FileImageOptions, openFileImage } from './file-image.js';
export { allocateMemory } from './memory.js';
export { MemoryImage, type MemoryImageOptions, memoryImage } from './memory-image.js';
export { type NbdImageOptions, openNbdImage } from './nbd-image.js';
export { type NullImageOptions, nullImage } from './null-image.js';
export { rmwImage } from './rmw-image.js';
export { type ThrottleLimits, throttledImage } from './throttled-image.js';
