export {
  type ClientOptions,
  type ConnectOptions,
  type Reopen,
  type TransactionOptions,
  type WatchOptions,
  XenstoreClient,
} from './client.js';
export { XenstoreFeature } from './daemon-operations.js';
export { isXenstoreError, XenstoreError, type XenstoreErrorCode } from './errors.js';
export type { FieldSpec, FieldValue } from './fields.js';
export type { XenstoreProvider } from './locate.js';
export type { OperationOptions, XenstoreOperations, XenstoreValue } from './operations.js';
export { checkPath, isSpecialPath, pathProblem } from './paths.js';
export { formatPermission, type Permission, type PermissionAccess, parsePermission } from './permissions.js';
export type { Transaction } from './transaction.js';
export {
  readTree,
  type TreeChanges,
  type TreeOperations,
  type TreeSchema,
  type TreeValues,
  writeTree,
} from './tree.js';
export { type TreeState, type TreeWatch, watchTree } from './tree-watch.js';
export type { Watch, WatchEvent, WatchSink } from './watch.js';
export {
  allocateMessage,
  decodeStrings,
  decodeText,
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  XS_ERROR_NAMES,
  XS_HEADER_BYTES,
  XS_MAX_ABSOLUTE_PATH,
  XS_MAX_PAYLOAD,
  XS_MAX_RELATIVE_PATH,
  type XsMessage,
  XsOp,
  type XsOpName,
  xsOpName,
} from './wire.js';
