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
