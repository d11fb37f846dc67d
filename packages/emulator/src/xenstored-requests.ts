import { XS_MAX_PAYLOAD, XS_MAX_RELATIVE_PATH, type XsMessage, XsOp } from '@xenpv/xenstore';
import type { Connection } from './xenstored-connection.js';
import type { DomainRecord } from './xenstored-domains.js';
import { DOMID_SELF } from './xenstored-limits.js';
import { Access, decodePermission, encodePermissions, type NodePermission } from './xenstored-permissions.js';
import type { XenstoredQuotas } from './xenstored-quota.js';
import type { Errno, Store, StoreView } from './xenstored-store.js';
import { Transaction } from './xenstored-transaction.js';
import {
  getNode,
  isNodePath,
  makeNode,
  removeNode,
  setPermissions,
  type TreeContext,
  writeNode,
} from './xenstored-tree.js';
import { eventPath, type Watch } from './xenstored-watches.js';

/** What the handlers of requests ask of the daemon. */
export interface RequestHost {
  readonly store: Store;
  readonly quotas: XenstoredQuotas;
  /** Whether WATCH takes a depth, as daemons from 4.22 on do. */
  readonly watchDepth: boolean;
  addWatch(connection: Connection, watch: Omit<Watch<Connection>, 'order' | 'watcher'>): Watch<Connection>;
  removeWatch(connection: Connection, watch: Watch<Connection>): void;
  /** Ends all transactions and watches of a connection. */
  reset(connection: Connection): void;
  introduce(domid: number, port: number): Errno | undefined;
  release(domain: DomainRecord): void;
  resume(domain: DomainRecord): void;
  specialPermissions(name: string): readonly NodePermission[] | undefined;
  setSpecialPermissions(
    connection: Connection,
    name: string,
    permissions: readonly NodePermission[],
  ): Errno | undefined;
  control(words: string[]): string | { error: Errno };
}

/** One request on its way through a handler. */
interface Call {
  readonly host: RequestHost;
  readonly connection: Connection;
  readonly message: XsMessage;
  readonly payload: Buffer;
  readonly transaction: Transaction | undefined;
}

/** An answer: what to send back, and what to do after that; or why not. */
type Answer =
  | string
  | Uint8Array
  | { readonly error: Errno }
  | { readonly reply: string; readonly afterwards: () => void };

interface Operation {
  readonly handle: (call: Call) => Answer;
  /** Only for domain 0. */
  readonly privileged?: boolean;
  /** Takes no notice of the transaction id. */
  readonly ignoresTransaction?: boolean;
}

const OK = 'OK\0';

const OPERATIONS: (Operation | undefined)[] = [];
OPERATIONS[XsOp.control] = { handle: control, privileged: true };
OPERATIONS[XsOp.directory] = { handle: directory };
OPERATIONS[XsOp.read] = { handle: read };
OPERATIONS[XsOp.getPermissions] = { handle: getPermissions };
OPERATIONS[XsOp.watch] = { handle: watch, ignoresTransaction: true };
OPERATIONS[XsOp.unwatch] = { handle: unwatch, ignoresTransaction: true };
OPERATIONS[XsOp.transactionStart] = { handle: transactionStart };
OPERATIONS[XsOp.transactionEnd] = { handle: transactionEnd };
OPERATIONS[XsOp.introduce] = { handle: introduce, privileged: true };
OPERATIONS[XsOp.release] = { handle: release, privileged: true };
OPERATIONS[XsOp.getDomainPath] = { handle: getDomainPath };
OPERATIONS[XsOp.write] = { handle: write };
OPERATIONS[XsOp.mkdir] = { handle: (call) => done(makeNode(context(call), onePath(call))) };
OPERATIONS[XsOp.remove] = { handle: (call) => done(removeNode(context(call), onePath(call))) };
OPERATIONS[XsOp.setPermissions] = { handle: changePermissions };
OPERATIONS[XsOp.isDomainIntroduced] = { handle: isDomainIntroduced, privileged: true };
OPERATIONS[XsOp.resume] = { handle: resume, privileged: true };
OPERATIONS[XsOp.setTarget] = { handle: setTarget, privileged: true };
OPERATIONS[XsOp.resetWatches] = { handle: resetWatches };
OPERATIONS[XsOp.directoryPart] = { handle: directoryPart };

/** Carries out one request and queues the answer. Nothing that a client sends makes it throw. */
export function processRequest(host: RequestHost, connection: Connection, message: XsMessage): void {
  const answer = carryOut(host, connection, message);
  if (typeof answer === 'string' || answer instanceof Uint8Array) {
    connection.reply(message, answer);
  } else if ('error' in answer) {
    connection.replyError(message, answer.error);
  } else {
    connection.reply(message, answer.reply);
    answer.afterwards();
  }
}

function carryOut(host: RequestHost, connection: Connection, message: XsMessage): Answer {
  const operation = OPERATIONS[message.type];
  if (operation === undefined) return failure('ENOSYS');
  if (operation.privileged && !connection.domain.privileged) return failure('EACCES');
  let transaction: Transaction | undefined;
  if (message.transactionId !== 0 && !operation.ignoresTransaction) {
    transaction = connection.transactions.get(message.transactionId);
    if (transaction === undefined) return failure('ENOENT');
  }
  return operation.handle({ host, connection, message, payload: asBuffer(message.payload), transaction });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function failure(error: Errno): Answer {
  return { error };
}

function done(error: Errno | undefined): Answer {
  return error === undefined ? OK : { error };
}

function context(call: Call): TreeContext {
  const { host, connection } = call;
  const view: StoreView = call.transaction ?? host.store;
  return { view, requester: connection.requester, domain: connection.domain, quotas: host.quotas };
}

/** The payload's strings; what follows the last NUL is none. */
function strings(payload: Buffer): string[] {
  const parts = payload.toString('latin1').split('\0');
  parts.pop();
  return parts;
}

/** The payload as one string with its NUL; undefined when it is anything else. */
function oneString(payload: Buffer): string | undefined {
  const end = payload.indexOf(0);
  return end >= 0 && end === payload.length - 1 ? payload.toString('latin1', 0, end) : undefined;
}

/** A path as the daemon uses it: relative ones are below the domain's home. */
function absolute(connection: Connection, path: string): string {
  return path[0] === '/' || path[0] === '@' ? path : `${connection.home}/${path}`;
}

function onePath(call: Call): string | undefined {
  const path = oneString(call.payload);
  return path === undefined ? undefined : absolute(call.connection, path);
}

/** A number as C's atoi reads it: leading blanks and a sign, digits, anything; 32 bits. */
function looseNumber(text: string): number {
  const match = /^[\t-\r ]*([+-]?[0-9]+)/.exec(text);
  return match === null ? 0 : Number(BigInt.asIntN(32, BigInt(match[1]!)));
}

function looseDomid(text: string): number {
  return looseNumber(text) >>> 0;
}

function read(call: Call): Answer {
  const node = getNode(context(call), onePath(call), Access.read);
  return typeof node === 'string' ? failure(node) : node.data;
}

function directory(call: Call): Answer {
  const node = getNode(context(call), onePath(call), Access.read);
  if (typeof node === 'string') return failure(node);
  return node.children.byteLength > XS_MAX_PAYLOAD ? failure('E2BIG') : node.children.bytes;
}

/** path|offset| → generation|children|*, and an empty name after the last. */
function directoryPart(call: Call): Answer {
  const { payload } = call;
  const words = strings(payload);
  if (words.length !== 2) return failure('EINVAL');
  const node = getNode(context(call), absolute(call.connection, words[0]!), Access.read);
  if (typeof node === 'string') return failure(node);
  const offset = looseNumber(words[1]!) >>> 0;
  const generation = `${node.generation}\0`;
  if (offset >= node.children.byteLength) return `${generation}\0`;
  const part = wholeNames(node.children.bytes, offset, XS_MAX_PAYLOAD - generation.length - 1);
  const last = offset + part.length === node.children.byteLength;
  return Buffer.concat([Buffer.from(generation), part, last ? Buffer.alloc(1) : Buffer.alloc(0)]);
}

/** As many names from `offset` on as fit in `room` bytes. */
function wholeNames(names: Buffer, offset: number, room: number): Buffer {
  if (names.length - offset <= room) return names.subarray(offset);
  return names.subarray(offset, Math.max(offset, names.lastIndexOf(0, offset + room - 1) + 1));
}

/** path|value; the value may hold anything. */
function write(call: Call): Answer {
  const { payload } = call;
  const end = payload.indexOf(0);
  if (end < 0) return failure('EINVAL');
  const path = absolute(call.connection, payload.toString('latin1', 0, end));
  return done(writeNode(context(call), path, Uint8Array.prototype.slice.call(payload, end + 1)));
}

function getPermissions(call: Call): Answer {
  const node = getNode(context(call), onePath(call), Access.read);
  return typeof node === 'string' ? failure(node) : encodePermissions(node.permissions);
}

/** path|permission|*: the owner first. */
function changePermissions(call: Call): Answer {
  const { host, connection } = call;
  const [path, ...words] = strings(call.payload);
  if (path === undefined || words.length === 0) return failure('EINVAL');
  if (!connection.domain.privileged && words.length > host.quotas.permissions) return failure('ENOSPC');
  const permissions: NodePermission[] = [];
  for (const word of words) {
    const permission = decodePermission(word);
    if (permission === undefined) return failure('EINVAL');
    const exists = host.store.domains.open(permission.domid) !== undefined;
    permissions.push({ ...permission, stale: !exists });
  }
  if (permissions[0]!.stale) return failure('ENOENT');
  if (path[0] === '@') return done(host.setSpecialPermissions(connection, path, permissions));
  return done(setPermissions(context(call), absolute(connection, path), permissions));
}

/** path|token|, and depth| where the daemon has it. The first event follows the answer; others precede the answers to their causes. */
function watch(call: Call): Answer {
  const { host, connection } = call;
  const words = strings(call.payload);
  const [path, token] = words;
  if (words.length !== 2 && !(words.length === 3 && host.watchDepth)) return failure('EINVAL');
  const target = absolute(connection, path!);
  if (path![0] === '@' ? path!.length > XS_MAX_RELATIVE_PATH : !isNodePath(target, host.quotas))
    return failure('EINVAL');
  const depth = words.length === 3 ? /^[0-9]+$/.test(words[2]!) && Number(words[2]) : undefined;
  if (depth === false) return failure('EINVAL');
  if (connection.watches.has(`${target}\0${token!}`)) return failure('EEXIST');
  if (!connection.domain.privileged && connection.domain.watches > host.quotas.watches) return failure('E2BIG');
  const prefixLength = target === path ? 0 : connection.home.length;
  const added = host.addWatch(connection, { path: target, token: token!, prefixLength, depth });
  return { reply: OK, afterwards: () => connection.sendEvent(eventPath(added, target), token!) };
}

/** path|token| */
function unwatch(call: Call): Answer {
  const { host, connection } = call;
  const words = strings(call.payload);
  if (words.length !== 2) return failure('EINVAL');
  const there = connection.watches.get(`${absolute(connection, words[0]!)}\0${words[1]!}`);
  if (there === undefined) return failure('ENOENT');
  host.removeWatch(connection, there);
  return OK;
}

function resetWatches(call: Call): Answer {
  call.host.reset(call.connection);
  return OK;
}

function transactionStart(call: Call): Answer {
  const { host, connection } = call;
  const { domain } = connection;
  if (call.transaction !== undefined) return failure('EBUSY');
  if (!domain.privileged && domain.transactions > host.quotas.transactions) return failure('ENOSPC');
  const id = unusedTransactionId(connection);
  const limits = domain.privileged ? UNLIMITED : host.quotas;
  connection.transactions.set(id, new Transaction(id, host.store, limits));
  domain.transactions++;
  return `${id}\0`;
}

const UNLIMITED = { nodes: Number.POSITIVE_INFINITY, transactionNodes: Number.POSITIVE_INFINITY };

function unusedTransactionId(connection: Connection): number {
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
  if (word === 'T') return done(transaction.commit());
  transaction.abort();
  return OK;
}

function getDomainPath(call: Call): Answer {
  const word = oneString(call.payload);
  return word === undefined ? failure('EINVAL') : `/local/domain/${looseDomid(word)}\0`;
}

/** domid|gfn|event channel| */
function introduce(call: Call): Answer {
  const [domid, , port] = strings(call.payload);
  if (domid === undefined || port === undefined || looseNumber(port) <= 0) return failure('EINVAL');
  return done(call.host.introduce(looseDomid(domid), looseNumber(port)));
}

/** The domain that a request of one number is about; it must have been introduced. */
function namedDomain(call: Call): DomainRecord | Errno {
  const word = oneString(call.payload);
  const domid = word === undefined ? 0 : looseDomid(word);
  if (domid === 0) return 'EINVAL';
  return introduced(call.host, domid) ?? 'ENOENT';
}

function introduced(host: RequestHost, domid: number): DomainRecord | undefined {
  const domain = host.store.domains.get(domid);
  return domain?.introduced ? domain : undefined;
}

function release(call: Call): Answer {
  const domain = namedDomain(call);
  if (typeof domain === 'string') return failure(domain);
  call.host.release(domain);
  return OK;
}

function resume(call: Call): Answer {
  const domain = namedDomain(call);
  if (typeof domain === 'string') return failure(domain);
  call.host.resume(domain);
  return OK;
}

function isDomainIntroduced(call: Call): Answer {
  const word = oneString(call.payload);
  if (word === undefined) return failure('EINVAL');
  const domid = looseDomid(word);
  return domid === DOMID_SELF || introduced(call.host, domid) !== undefined ? 'T\0' : 'F\0';
}

/** domid|target|: the first may do all that the second may. */
function setTarget(call: Call): Answer {
  const [domid, target] = strings(call.payload);
  if (domid === undefined || target === undefined) return failure('EINVAL');
  const domain = introduced(call.host, looseDomid(domid));
  const served = introduced(call.host, looseDomid(target));
  if (domain === undefined || served === undefined) return failure('ENOENT');
  domain.target = served.domid;
  return OK;
}

function control(call: Call): Answer {
  const words = strings(call.payload);
  return words.length === 0 ? failure('EINVAL') : call.host.control(words);
}
