export { Blkfront, type WriteMode } from './frontend-device.js';
export { BlkfrontError, type BlkfrontErrorCode } from './frontend-errors.js';
export type { BlkfrontFeatures, BlkfrontGeometry } from './frontend-handshake.js';
export type { Latency } from './frontend-latency.js';
export type { LoadOptions, LoadResult } from './frontend-load.js';
export type { BlkfrontOptions } from './frontend-options.js';
export type { RawPage, RawQueue, RawResponse } from './frontend-raw.js';
