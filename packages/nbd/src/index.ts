export { type NbdExport, negotiateExport, negotiateTls } from './client-negotiation.js';
export { Conversation, type Speaker } from './conversation.js';
export type { NbdContext, NbdDisk } from './disk.js';
export { NbdError, type NbdErrorCode, type NbdErrorOp } from './errors.js';
export {
  knownNbdErrno,
  NBD_BASE_ALLOCATION,
  NBD_ESHUTDOWN,
  NBD_MAX_REQUEST,
  NBD_MAX_STRING,
  NbdCommand,
  NbdCommandFlag,
  NbdFlag,
  NbdState,
} from './protocol/numbers.js';
export {
  decodeSimpleReply,
  encodeRequest,
  NBD_REQUEST_BYTES,
  NBD_SIMPLE_REPLY_BYTES,
  type NbdExtent,
  type NbdRequest,
} from './protocol/requests.js';
export { type NbdExportOptions, NbdServer, type NbdServerOptions } from './server/server.js';
export { type BlockStatus, NbdStatusClient, type StatusClientOptions } from './status-client.js';
