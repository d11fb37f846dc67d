import { formatPermission } from '../client/permissions.js';
import { isXenstoreError } from '../errors.js';
import { childPath } from '../wire/paths.js';
import { type Command, type CommandContext, explained, jsonValue } from './command.js';
import { showValue } from './value-text.js';

const DEFAULT_COLUMNS = 80;
/** Columns that are kept free at the right of a terminal. */
const MARGIN = 2;
/** Where permissions begin, unless the value is longer. */
const PERMISSIONS_COLUMN = 60;
/** What a value takes that does not fit: ` = "..."`. */
const ELLIPSIS_COLUMNS = 8;

interface Node {
  readonly name: string;
  readonly path: string;
  readonly depth: number;
  /** Undefined if it may not be read. */
  readonly value: Uint8Array | undefined;
  readonly permissions: string | undefined;
}

/** xenstore-ls: a tree, indented, with values. */
export const ls: Command = {
  usage: '[-f] [-p] [-s] [path]',
  options: { full: { type: 'boolean', short: 'f' }, permissions: { type: 'boolean', short: 'p' } },
  accepts: () => true,
  run: async (context) => {
    const { args, options, print, columns } = context;
    const roots = await Promise.all((args.length === 0 ? ['/'] : args).map((path) => listRoot(context, path)));
    const nodes = roots.flat();
    if (options.json) {
      print(`${JSON.stringify(nodes.map(jsonNode))}\n`);
      return 0;
    }
    const width = columns === undefined ? DEFAULT_COLUMNS : columns - MARGIN;
    for (const node of nodes) print(`${options.full ? fullLine(node) : treeLine(node, width)}\n`);
    return 0;
  },
};

async function listRoot(context: CommandContext, path: string): Promise<Node[]> {
  const names = await explained(context.store.directory(path), (reason) => `xs_directory (${path}): ${reason}`);
  return listChildren(context, path, names, 0);
}

/** The nodes below a path, parents first. All are asked for at once. */
async function listChildren(
  context: CommandContext,
  path: string,
  names: readonly string[],
  depth: number,
): Promise<Node[]> {
  const trees = await Promise.all(names.map((name) => listTree(context, childPath(path, name), name, depth)));
  return trees.flat();
}

async function listTree(context: CommandContext, path: string, name: string, depth: number): Promise<Node[]> {
  const { store, options } = context;
  const [value, permissions, names] = await Promise.all([
    store.readBytes(path).catch(refused),
    options.permissions ? store.getPermissions(path).catch(refused) : undefined,
    // A node that is gone by now has no children.
    store.tryDirectory(path).then((children) => children ?? [], refused),
  ]);
  const node = { name, path, depth, value, permissions: permissions?.map(formatPermission).join(',') };
  return [node, ...(await listChildren(context, path, names ?? [], depth + 1))];
}

function refused(error: unknown): undefined {
  if (!isXenstoreError(error) || error.code === 'ERR_CLOSED') throw error;
}

function jsonNode({ path, value, permissions }: Node): object {
  const node = { path, value: value === undefined ? null : jsonValue(value) };
  return permissions === undefined ? node : { ...node, permissions: permissions.split(',') };
}

function fullLine({ path, value, permissions }: Node): string {
  if (value === undefined) return `${path}:\n`;
  const suffix = permissions === undefined ? '' : `   (${permissions})`;
  return `${path} = "${showValue(value)}"${suffix}`;
}

function treeLine({ name, depth, value, permissions }: Node, width: number): string {
  const head = `${' '.repeat(depth)}${name.slice(0, Math.max(0, width - ELLIPSIS_COLUMNS - depth))}`;
  if (value === undefined) return `${head}:\n`;
  const suffix = permissions === undefined ? '' : `  (${permissions})`;
  if (width < head.length + value.length + ELLIPSIS_COLUMNS) {
    const shown = showValue(value).slice(0, Math.max(0, width - ELLIPSIS_COLUMNS - head.length));
    return `${head} = "${shown}\\..."${suffix}`;
  }
  const line = `${head} = "${showValue(value)}"`;
  return permissions === undefined ? line : `${line} ${dots(line.length + 1, width)}${suffix}`;
}

/** Leads the eye from a value to its permissions. */
function dots(from: number, width: number): string {
  const to = Math.min(PERMISSIONS_COLUMN, width);
  let text = '';
  for (let column = from; column < to; column++) text += column % 2 === 1 ? '.' : ' ';
  return text;
}
