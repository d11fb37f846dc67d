export {
  type ClientOptions,
  type ConnectOptions,
  type TransactionOptions,
  XenstoreClient,
} from './client/client.js';
export { XenstoreFeature } from './client/daemon-requests.js';
export type { XenstoreProvider } from './client/locate.js';
export type {
  OperationOptions,
  WalkedNode,
  WalkOptions,
  XenstoreOperations,
  XenstoreValue,
} from './client/operations.js';
export { formatPermission, type Permission, type PermissionAccess, parsePermission } from './client/permissions.js';
export type { CloseOptions, Reopen } from './client/session.js';
export type { Transaction } from './client/transaction.js';
export type { Watch, WatchEvent, WatchOptions, WatchSink } from './client/watch.js';
export type { ConnectionLostEvent, ConnectionRestoredEvent } from './diagnostics.js';
export { isXenstoreError, XenstoreError, type XenstoreErrorCode } from './errors.js';
export type { CustomField, FieldSpec, FieldValue } from './tree/fields.js';
export {
  type NestedTree,
  readTree,
  type TreeChanges,
  type TreeOperations,
  type TreeSchema,
  type TreeValues,
  treeSchema,
  writeTree,
} from './tree/tree.js';
export { type TreeState, type TreeWatch, watchTree } from './tree/tree-watch.js';
export { checkPath, isSpecialPath, pathProblem } from './wire/paths.js';
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
} from './wire/wire.js';
