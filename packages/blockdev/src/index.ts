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
export type { EngineFallback } from './diagnostics.js';
export { BlockDeviceError } from './errors.js';
export { type FileEngine, FileImage, type FileImageOptions, openFileImage } from './file/image.js';
export { MemoryImage, type MemoryImageOptions, memoryImage } from './memory/image.js';
export { type NullImageOptions, nullImage } from './memory/null-image.js';
export { type NbdImageOptions, openNbdImage } from './nbd/image.js';
export { allocateMemory } from './queue/buffer.js';
export { type Fault, type FaultPlan, faultyImage } from './wrappers/faulty.js';
export { rmwImage } from './wrappers/rmw.js';
export { type ThrottleLimits, throttledImage } from './wrappers/throttled.js';
