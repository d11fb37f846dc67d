import { XsOp } from '@xenpv/xenstore';
import { type Answer, type Call, done, failure, OK, type Operation, oneString } from '../connection/call.js';
import type { ServerConnection } from '../connection/connection.js';
import { ServerTransaction } from '../tree/transaction.js';

/** Requests that begin and end transactions, by their type. */
export const transactionOperations: Record<number, Operation> = {
  [XsOp.transactionStart]: { handle: transactionStart },
  [XsOp.transactionEnd]: { handle: transactionEnd },
};

function transactionStart(call: Call): Answer {
  const { host, connection } = call;
  const { domain } = connection;
  if (call.transaction !== undefined) return failure('EBUSY');
  if (domain.transactions > domain.quotas.transactions) return failure('ENOSPC');
  const id = unusedTransactionId(connection);
  connection.transactions.set(id, new ServerTransaction(id, host.store, domain));
  domain.transactions++;
  return `${id}\0`;
}

function unusedTransactionId(connection: ServerConnection): number {
  let id: number;
  do {
    id = connection.nextTransactionId;
    connection.nextTransactionId = (id + 1) >>> 0;
  } while (id === 0 || connection.transactions.has(id));
  return id;
}

/** T| commits, F| gives up. */
function transactionEnd(call: Call): Answer {
  const { connection, transaction } = call;
  const word = oneString(call.payload);
  if (word !== 'T' && word !== 'F') return failure('EINVAL');
  if (transaction === undefined) return failure('ENOENT');
  connection.transactions.delete(transaction.id);
  connection.domain.transactions--;
  if (word === 'T') return done(transaction.commit(() => call.host.conflict(connection.domain.domid)));
  transaction.abort();
  return OK;
}
