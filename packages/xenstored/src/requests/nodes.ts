import { XS_MAX_PAYLOAD, XsOp } from '@xenpv/xenstore';
import {
  type Answer,
  absolute,
  type Call,
  context,
  done,
  failure,
  type Operation,
  onePath,
  strings,
} from '../connection/call.js';
import { looseNumber } from '../tree/numbers.js';
import { Access, decodePermission, encodePermissions, type NodePermission } from '../tree/permissions.js';
import { getNode, makeNode, removeNode, setPermissions, writeNode } from '../tree/tree.js';

/** Requests about nodes, by their type. */
export const nodeOperations: Record<number, Operation> = {
  [XsOp.directory]: { handle: onePath(directory) },
  [XsOp.directoryPart]: { handle: directoryPart },
  [XsOp.read]: { handle: onePath(read) },
  [XsOp.write]: { handle: write },
  [XsOp.mkdir]: { handle: onePath((call, path) => done(makeNode(context(call), path))) },
  [XsOp.remove]: { handle: onePath((call, path) => done(removeNode(context(call), path))) },
  [XsOp.getPermissions]: { handle: onePath(getPermissions) },
  [XsOp.setPermissions]: { handle: changePermissions },
};

function read(call: Call, path: string): Answer {
  const node = getNode(context(call), path, Access.read);
  return typeof node === 'string' ? failure(node) : node.data;
}

function directory(call: Call, path: string): Answer {
  const node = getNode(context(call), path, Access.read);
  if (typeof node === 'string') return failure(node);
  return node.children.byteLength > XS_MAX_PAYLOAD ? failure('E2BIG') : node.children.bytes;
}

/** path|offset| → generation|children|*, and an empty name after the last. */
function directoryPart(call: Call): Answer {
  const { payload } = call;
  const words = strings(payload);
  if (words.length !== 2) return failure('EINVAL');
  const node = getNode(context(call), absolute(call.connection, words[0]), Access.read);
  if (typeof node === 'string') return failure(node);
  const offset = looseNumber(words[1]) >>> 0;
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

function getPermissions(call: Call, path: string): Answer {
  const node = getNode(context(call), path, Access.read);
  return typeof node === 'string' ? failure(node) : encodePermissions(node.permissions);
}

/** path|permission|*: the owner first. */
function changePermissions(call: Call): Answer {
  const { host, connection } = call;
  const [path, ...words] = strings(call.payload);
  if (path === undefined || words.length === 0) return failure('EINVAL');
  if (words.length > connection.domain.quotas.permissions) return failure('ENOSPC');
  const permissions: NodePermission[] = [];
  for (const word of words) {
    const permission = decodePermission(word);
    if (permission === undefined) return failure('EINVAL');
    const exists = host.domains.open(permission.domid) !== undefined;
    permissions.push({ ...permission, stale: !exists });
  }
  if (permissions[0].stale) return failure('ENOENT');
  if (path[0] === '@') return done(host.events.setSpecialPermissions(connection.requester, path, permissions));
  return done(setPermissions(context(call), absolute(connection, path), permissions));
}
