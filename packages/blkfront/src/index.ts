export { Blkfront, type WriteMode } from './blkfront.js';
export { BlkfrontError, type BlkfrontErrorCode, type BlkfrontErrorOptions } from './errors.js';
export type { BlkfrontFeatures, BlkfrontGeometry } from './handshake.js';
export type { BlkfrontOptions, BlkfrontTestingOptions } from './options.js';
export type { RequestOptions } from './rings/call.js';
export { type Latency, LatencyHistogram } from './tools/latency.js';
export type { LoadOptions, LoadResult } from './tools/load.js';
