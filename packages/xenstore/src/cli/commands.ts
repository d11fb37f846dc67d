import type { XenstoreOperations } from '../client/operations.js';
import { type Permission, parsePermission } from '../client/permissions.js';
import { childPath } from '../wire/paths.js';
import { type Command, type CommandContext, CommandFailure, explained, jsonValue } from './command.js';
import { ls } from './ls.js';
import { parseValue, showValue } from './value-text.js';

const PREFIX = { prefix: { type: 'boolean', short: 'p' } } as const;
const RAW = { raw: { type: 'boolean', short: 'R' } } as const;

const atLeastOne = (args: readonly string[]) => args.length > 0;

/** xenstore-exists: the exit code says whether all are there. */
const exists: Command = {
  usage: '[-s] key [...]',
  options: {},
  accepts: atLeastOne,
  run: (context) =>
    inTransaction(context, async (tx) => {
      const found = await each(context, (path) => explained(tx.exists(path), (reason) => `${path}: ${reason}`));
      if (context.options.json) printJson(context, found);
      return found.every(Boolean) ? 0 : 1;
    }),
};

/** xenstore-list: the names of the children. */
const list: Command = {
  usage: '[-p] [-s] key [...]',
  options: PREFIX,
  accepts: atLeastOne,
  run: (context) =>
    inTransaction(context, async (tx) => {
      const found = await each(context, async (path) => {
        const names = await explained(tx.directory(path), () => `could not list path ${path}`);
        const shown = context.options.prefix ? names.map((name) => childPath(path, name)) : names;
        if (!context.options.json) context.print(shown.map((name) => `${name}\n`).join(''));
        return shown;
      });
      if (context.options.json) printJson(context, found);
      return 0;
    }),
};

/** xenstore-read. */
const read: Command = {
  usage: '[-p] [-s] [-R] key [...]',
  options: { ...PREFIX, ...RAW },
  accepts: atLeastOne,
  run: (context) =>
    inTransaction(context, async (tx) => {
      const { json, prefix, raw } = context.options;
      const found = await each(context, async (path) => {
        const value = await explained(tx.readBytes(path), () => `couldn't read path ${path}`);
        if (json) return jsonValue(value);
        if (prefix) context.print(`${path}: `);
        context.print(raw ? value : `${showValue(value)}\n`);
        return undefined;
      });
      if (json) printJson(context, found);
      return 0;
    }),
};

/** xenstore-write: all or nothing. */
const write: Command = {
  usage: '[-s] [-R] key value [...]',
  options: RAW,
  accepts: (args) => args.length > 0 && args.length % 2 === 0,
  run: (context) =>
    inTransaction(context, async (tx) => {
      const { args, options } = context;
      for (let index = 0; index < args.length; index += 2) {
        const path = args[index];
        const value = options.raw ? args[index + 1] : parseValue(args[index + 1]);
        await explained(tx.write(path, value), () => `could not write path ${path}`);
      }
      return 0;
    }),
};

/** xenstore-rm: with -t, parents that are left without value and children go too. */
const rm: Command = {
  usage: '[-s] [-t] key [...]',
  options: { tidy: { type: 'boolean', short: 't' } },
  accepts: atLeastOne,
  run: (context) =>
    inTransaction(context, async (tx) => {
      await each(context, async (path) => {
        const parent = path.slice(0, path.lastIndexOf('/'));
        // The library takes a missing parent for done, the stock tool for a failure.
        if (parent !== '') await explained(tx.directory(parent), () => `could not remove path ${path}`);
        await explained(tx.remove(path), () => `could not remove path ${path}`);
        if (context.options.tidy) await tidy(tx, parent);
      });
      return 0;
    }),
};

async function tidy(tx: XenstoreOperations, path: string): Promise<void> {
  if (path === '' || (await tx.readBytes(path)).length > 0 || (await tx.directory(path)).length > 0) return;
  await tx.remove(path);
  await tidy(tx, path.slice(0, path.lastIndexOf('/')));
}

/** xenstore-chmod: -r for all below too, -u for all above too. */
const chmod: Command = {
  usage: '[-u] [-r] [-s] key <mode [modes...]>',
  options: { upwards: { type: 'boolean', short: 'u' }, recursive: { type: 'boolean', short: 'r' } },
  accepts: (args) => args.length > 1,
  run: (context) =>
    inTransaction(context, async (tx) => {
      const [path, ...modes] = context.args;
      const permissions = modes.map(permissionOf);
      if (context.options.upwards) {
        for (let above = parentOf(path); above !== undefined; above = parentOf(above))
          await permit(tx, above, permissions);
      }
      if (context.options.recursive) await permitBelow(tx, path, permissions);
      else await permit(tx, path, permissions);
      return 0;
    }),
};

function permissionOf(text: string): Permission {
  const permission = parsePermission(text);
  if (permission === undefined) throw new CommandFailure(`Invalid permission specification: '${text}'`);
  return permission;
}

function parentOf(path: string): string | undefined {
  const at = path.lastIndexOf('/');
  return at <= 0 ? undefined : path.slice(0, at);
}

function permit(tx: XenstoreOperations, path: string, permissions: readonly Permission[]): Promise<void> {
  const done = tx.setPermissions(path, permissions);
  return explained(done, (reason) => `Error occurred setting permissions on '${path}': ${reason}`);
}

async function permitBelow(tx: XenstoreOperations, path: string, permissions: readonly Permission[]): Promise<void> {
  await permit(tx, path, permissions);
  for (const name of await tx.directory(path)) await permitBelow(tx, childPath(path, name), permissions);
}

/** xenstore-control: what the daemon answers. */
const control: Command = {
  usage: '[-s] command [arg ...]',
  options: {},
  accepts: atLeastOne,
  run: async ({ store, args: [command, ...rest], options, print, signal }) => {
    const text = await explained(store.control(command, rest, { signal }), (reason) => `${command}: ${reason}`);
    print(options.json ? `${JSON.stringify(text)}\n` : text === '' || text.endsWith('\n') ? text : `${text}\n`);
    return 0;
  },
};

/** xenstore-watch: a line for each event, until there were enough. */
const watch: Command = {
  usage: '[-n NR] key [...]',
  options: { number: { type: 'string', short: 'n' } },
  accepts: atLeastOne,
  run: async ({ store, args, options, show, signal }) => {
    const limit = countOf(options.number);
    if (limit === 0) return 0;
    let seen = 0;
    return new Promise<number>((resolve, reject) => {
      const event = (path: string) => {
        if (seen === limit) return;
        show(options.json ? `${JSON.stringify({ path })}\n` : `${path}\n`);
        if (++seen === limit) resolve(0);
      };
      signal.addEventListener('abort', () => resolve(0));
      for (const path of args) {
        const watching = store.subscribe(path, { event, failed: reject });
        explained(watching, () => `Unable to add watch on ${path}`).catch(reject);
      }
    });
  },
};

function countOf(text: string | boolean | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  if (/^[0-9]{1,9}$/.test(String(text))) return Number(text);
  throw new CommandFailure(`-n takes a number, not '${text}'`);
}

/** By name. */
export const commands: Readonly<Record<string, Command>> = { chmod, control, exists, list, ls, read, rm, watch, write };

function inTransaction(context: CommandContext, fn: (tx: XenstoreOperations) => Promise<number>): Promise<number> {
  return context.store.transaction((tx) => {
    context.reset();
    return fn(tx);
  });
}

/** Runs `fn` for one path after the other. */
async function each<T>(context: CommandContext, fn: (path: string) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (const path of context.args) results.push(await fn(path));
  return results;
}

/** `{ path: result }`. */
function printJson(context: CommandContext, results: readonly unknown[]): void {
  const entries = context.args.map((path, index) => [path, results[index]]);
  context.print(`${JSON.stringify(Object.fromEntries(entries))}\n`);
}
