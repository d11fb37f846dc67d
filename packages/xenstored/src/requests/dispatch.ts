import type { XsMessage } from '@xenpv/xenstore';
import { type Answer, failure, type Operation, type RequestHost } from '../connection/call.js';
import type { ServerConnection } from '../connection/connection.js';
import type { ServerTransaction } from '../tree/transaction.js';
import { domainOperations } from './domains.js';
import { nodeOperations } from './nodes.js';
import { settingsOperations } from './settings.js';
import { transactionOperations } from './transactions.js';
import { watchOperations } from './watches.js';

const OPERATIONS: readonly (Operation | undefined)[] = Object.assign(
  [],
  nodeOperations,
  watchOperations,
  transactionOperations,
  domainOperations,
  settingsOperations,
);

/** Carries out one request and queues the answer. Nothing that a client sends makes it throw. */
export function processRequest(host: RequestHost, connection: ServerConnection, message: XsMessage): void {
  const answer = carryOut(host, connection, message);
  if (typeof answer === 'string' || answer instanceof Uint8Array) {
    connection.reply(message, answer);
  } else if ('error' in answer) {
    host.refused(connection.domain.domid, answer.error);
    connection.replyError(message, answer.error);
  } else {
    connection.reply(message, answer.reply);
    answer.afterwards();
  }
}

function carryOut(host: RequestHost, connection: ServerConnection, message: XsMessage): Answer {
  const operation = OPERATIONS[message.type];
  if (operation === undefined || (operation.optional && host.features === 0)) return failure('ENOSYS');
  if (operation.privileged && !connection.domain.privileged) return failure('EACCES');
  let transaction: ServerTransaction | undefined;
  if (message.transactionId !== 0 && !operation.ignoresTransaction) {
    transaction = connection.transactions.get(message.transactionId);
    if (transaction === undefined) return failure('ENOENT');
  }
  return operation.handle({ host, connection, message, payload: asBuffer(message.payload), transaction });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
