export { type NbdExport, NbdRefusal, negotiateExport } from './client-negotiation.js';
export type { NbdDisk } from './disk.js';
export {
  decodeSimpleReply,
  encodeRequest,
  NBD_MAX_REQUEST,
  NBD_REQUEST_BYTES,
  NBD_SIMPLE_REPLY_BYTES,
  NbdCommand,
  NbdCommandFlag,
  NbdFlag,
} from './protocol.js';
export { NbdServer } from './server/server.js';
