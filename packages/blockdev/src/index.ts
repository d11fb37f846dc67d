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
export { FileImage, type FileImageOptions, openFileImage } from './file-image.js';
export { allocateMemory } from './memory.js';
export { MemoryImage, type MemoryImageOptions, memoryImage } from './memory-image.js';
export { type NullImageOptions, nullImage } from './null-image.js';
