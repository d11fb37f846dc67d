import { XS_MAX_RELATIVE_PATH, XsOp } from '@xenpv/xenstore';
import { type Answer, absolute, type Call, Feature, failure, OK, type Operation, strings } from '../connection/call.js';
import { isNodePath } from '../tree/tree.js';
import { eventPath } from '../watches/watches.js';

/** Requests about watches, by their type. */
export const watchOperations: Record<number, Operation> = {
  [XsOp.watch]: { handle: watch, ignoresTransaction: true },
  [XsOp.unwatch]: { handle: unwatch, ignoresTransaction: true },
  [XsOp.resetWatches]: { handle: resetWatches },
};

/** path|token|, and depth| where the daemon has it. The first event follows the answer; others precede the answers to their causes. */
function watch(call: Call): Answer {
  const { host, connection } = call;
  const words = strings(call.payload);
  const [path, token] = words;
  if (words.length !== 2 && !(words.length === 3 && host.features & Feature.watchDepth)) return failure('EINVAL');
  const target = absolute(connection, path);
  if (path[0] === '@' ? path.length > XS_MAX_RELATIVE_PATH : !isNodePath(target, connection.domain.quotas))
    return failure('EINVAL');
  const depth = words.length === 3 ? /^[0-9]+$/.test(words[2]) && Number(words[2]) : undefined;
  if (depth === false) return failure('EINVAL');
  if (connection.watch(target, token) !== undefined) return failure('EEXIST');
  if (connection.domain.watches > connection.domain.quotas.watches) return failure('E2BIG');
  const prefixLength = target === path ? 0 : connection.home.length;
  const added = host.events.addWatch({ watcher: connection, path: target, token, prefixLength, depth });
  return { reply: OK, afterwards: () => connection.sendEvent(eventPath(added, target), token) };
}

/** path|token| */
function unwatch(call: Call): Answer {
  const { host, connection } = call;
  const words = strings(call.payload);
  if (words.length !== 2) return failure('EINVAL');
  const there = connection.watch(absolute(connection, words[0]), words[1]);
  if (there === undefined) return failure('ENOENT');
  host.events.removeWatch(there);
  return OK;
}

function resetWatches(call: Call): Answer {
  call.host.reset(call.connection);
  return OK;
}
