export { attachImage } from './attach.js';
export {
  type BlockFeatures,
  type BlockImage,
  BlockOp,
  type BlockQueue,
  type CompletionListener,
  type ImageExtent,
  IOV_WORDS,
  type RefreshOptions,
  type SharedImage,
} from './block-image.js';
export type {
  EngineFallback,
  LockUnavailable,
  NbdDroppedEvent,
  NbdLostEvent,
  NbdRestoredEvent,
  NbdUnfitEvent,
  NbdUnkeptEvent,
  OddSize,
  UnquietImage,
} from './diagnostics.js';
export {
  BlockDeviceError,
  type BlockDeviceErrorCode,
  type BlockDeviceErrorOp,
  type ErrnoName,
} from './errors.js';
export { type FileImage, type OpenFileOptions, openFileImage } from './file/image.js';
export type { FileEngine, FileImageOptions } from './file/options.js';
export { PinnedFile, type PinOptions } from './file/pinned-file.js';
export type { ImageUser } from './locks/image-user.js';
export { type MemoryDisk, MemoryImage, type MemoryImageOptions, memoryImage } from './memory/image.js';
export { type NullImageOptions, nullImage } from './memory/null-image.js';
export type { NbdAddress, NbdHostPort, NbdTls } from './nbd/address.js';
export { type NbdImageOptions, type OpenNbdImageOptions, openNbdImage } from './nbd/image.js';
export { type ImageDisk, type ImageDiskOptions, nbdDiskOf } from './nbd/image-disk.js';
export { holdsUnflushed, type UnflushedOptions } from './nbd/unflushed/log.js';
export { allocateMemory } from './queue/buffer.js';
export type { QueueOptions } from './queue/engine-queue.js';
export { exactResult } from './queue/exact-result.js';
export { openRingSleeper } from './uring/ring-sleeper.js';
export { type Fault, type FaultPlan, faultyImage } from './wrappers/faulty.js';
export { ImageWrapper } from './wrappers/image-wrapper.js';
export { type PowerCut, type PowerCutImage, type PowerCutOptions, powerCutImage } from './wrappers/power-cut/image.js';
export { QueueWrapper } from './wrappers/queue-wrapper.js';
export { rmwImage } from './wrappers/rmw.js';
export { type ThrottleLimits, throttledImage } from './wrappers/throttled.js';
