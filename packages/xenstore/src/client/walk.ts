import { isXenstoreError, XenstoreError } from '../errors.js';
import { childPath } from '../wire/paths.js';
import type { OperationOptions, WalkedNode, WalkOptions, XenstoreOperations } from './operations.js';

/** Siblings that are asked for before they are wanted. */
const AHEAD = 32;

/** One directory on the way down: which children were asked for, and the answers that nobody took yet. */
interface Level {
  readonly parent: WalkedNode;
  asked: number;
  readonly looks: Promise<WalkedNode | undefined>[];
}

/** What {@link XenstoreOperations.walk} does. Not recursive: a guest says how deep its tree is. */
export async function* walk(
  operations: XenstoreOperations,
  path: string,
  { depth: deepest = Number.POSITIVE_INFINITY, signal }: WalkOptions,
): AsyncGenerator<WalkedNode, void, undefined> {
  const look = (at: string, depth: number) => lookAt(operations, at, depth, { signal });
  const root = await look(path, 0);
  if (root === undefined) throw new XenstoreError('ENOENT', 'walk', 'no such node', { path });
  yield root;
  const levels: Level[] = deepest > 0 ? [levelOf(root)] : [];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const { parent, looks } = level;
    const { children } = parent;
    for (; looks.length < AHEAD && level.asked < children.length; level.asked++) {
      const next = look(childPath(parent.path, children[level.asked]), parent.depth + 1);
      // Who leaves the walk early does not wait for it.
      next.catch(() => {});
      looks.push(next);
    }
    const answer = looks.shift();
    if (answer === undefined) {
      levels.pop();
      continue;
    }
    const node = await answer;
    if (node === undefined) continue;
    yield node;
    if (node.depth < deepest && node.children.length > 0) levels.push(levelOf(node));
  }
}

function levelOf(parent: WalkedNode): Level {
  return { parent, asked: 0, looks: [] };
}

/** A node; undefined for one that is gone by now. */
async function lookAt(
  operations: XenstoreOperations,
  path: string,
  depth: number,
  options: OperationOptions,
): Promise<WalkedNode | undefined> {
  const [text, names] = await Promise.all([
    operations.read(path, options).then((value) => ({ value }), refusal),
    operations.directory(path, options).then((children) => ({ children }), refusal),
  ]);
  if (text === 'ENOENT' || names === 'ENOENT') return undefined;
  return {
    path,
    depth,
    value: text === 'EACCES' ? undefined : text.value,
    children: names === 'EACCES' ? [] : names.children,
  };
}

/** A refusal that a walk goes on after. */
function refusal(error: unknown): 'ENOENT' | 'EACCES' {
  if (isXenstoreError(error, 'ENOENT')) return 'ENOENT';
  if (isXenstoreError(error, 'EACCES')) return 'EACCES';
  throw error;
}
