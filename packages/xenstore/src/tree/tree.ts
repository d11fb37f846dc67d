import type { OperationOptions, XenstoreOperations } from '../client/operations.js';
import { quoted, XenstoreError } from '../errors.js';
import { type FieldSpec, type FieldValue, formatField, parseField } from './fields.js';

/**
 * The keys of a directory: names relative to it, and what each holds. Plain data. Written apart from the call that takes
 * it, {@link treeSchema} keeps its types.
 */
export type TreeSchema = { readonly [name: string]: FieldSpec | NestedTree };

/** A directory in a directory. */
export interface NestedTree {
  /** Tells a directory from a key with a value. */
  readonly type: 'tree';
  /** The keys of that directory. */
  readonly keys: TreeSchema;
  /** Missing reads as undefined; without it, the keys are read as of a directory that is empty. */
  readonly optional?: true | undefined;
}

/** A directory as {@link readTree} gives it: every key of the schema; undefined for an optional one that is missing. */
export type TreeValues<S extends TreeSchema> = {
  readonly [K in keyof S]: S[K] extends { optional: true }
    ? S[K] extends { default: NonNullable<unknown> }
      ? ContentOf<S[K]>
      : ContentOf<S[K]> | undefined
    : ContentOf<S[K]>;
};

type ContentOf<F extends FieldSpec | NestedTree> = F extends { type: 'tree'; keys: infer S extends TreeSchema }
  ? TreeValues<S>
  : F extends FieldSpec
    ? FieldValue<F>
    : never;

/**
 * What {@link writeTree} takes: undefined or left out leaves a key as it is, null removes it, or a nested directory with
 * all that is in it.
 */
export type TreeChanges<S extends TreeSchema> = { readonly [K in keyof S]?: ChangeOf<S[K]> | null | undefined };

type ChangeOf<F extends FieldSpec | NestedTree> = F extends { type: 'tree'; keys: infer S extends TreeSchema }
  ? TreeChanges<S>
  : F extends FieldSpec
    ? FieldValue<F>
    : never;

/** Node operations; a client, which also has transactions, is given its own one. */
export interface TreeOperations extends XenstoreOperations {
  /** As that of a client. */
  transaction?<T>(fn: (transaction: XenstoreOperations) => Promise<T>, options?: OperationOptions): Promise<T>;
}

/** The schema as it is, with the types that its author wrote: `'uint'` stays `'uint'`, without `as const`. */
export function treeSchema<const S extends TreeSchema>(schema: S): S {
  return schema;
}

/**
 * Reads a directory as one object. Given a client, in one transaction, so that the values belong together.
 * Rejects with ERR_INVALID_VALUE for a key with other content than the schema says (the message names path, text and
 * what was expected), with ENOENT for a missing one that is neither optional nor has a default.
 *
 * @example
 * ```ts
 * import { readTree, XenstoreClient } from '@xenpv/xenstore';
 *
 * const store = await XenstoreClient.connect();
 * const { state, ring } = await readTree(store, 'device/vchar/0', {
 *   state: { type: 'uint', default: 0 },
 *   ring: { type: 'tree', optional: true, keys: { ref: { type: 'gref' }, port: { type: 'port' } } },
 * });
 * console.log(state, ring?.ref, ring?.port);
 * ```
 */
export function readTree<const S extends TreeSchema>(
  operations: TreeOperations,
  path: string,
  schema: S,
  options: OperationOptions = {},
): Promise<TreeValues<S>> {
  return together(operations, options, (tx) => readKeys(tx, path, schema, options)) as Promise<TreeValues<S>>;
}

/**
 * Writes keys of a directory; given a client, in one transaction. Values that the schema does not allow reject with
 * ERR_INVALID_VALUE before anything is written.
 */
export async function writeTree<const S extends TreeSchema>(
  operations: TreeOperations,
  path: string,
  schema: S,
  changes: TreeChanges<S>,
  options: OperationOptions = {},
): Promise<void> {
  const texts = [...textsOf(path, schema, changes as Values)];
  await together(operations, options, async (tx) => {
    await Promise.all(
      texts.map(([key, text]) => (text === null ? tx.remove(key, options) : tx.write(key, text, options))),
    );
  });
}

type Values = Readonly<Record<string, unknown>>;

function together<T>(
  operations: TreeOperations,
  options: OperationOptions,
  fn: (operations: XenstoreOperations) => Promise<T>,
): Promise<T> {
  return operations.transaction === undefined ? fn(operations) : operations.transaction(fn, options);
}

async function readKeys(
  tx: XenstoreOperations,
  path: string,
  schema: TreeSchema,
  options: OperationOptions,
): Promise<Values> {
  const names = Object.keys(schema);
  const values = await Promise.all(names.map((name) => readKey(tx, `${path}/${name}`, schema[name], options)));
  return Object.fromEntries(names.map((name, index) => [name, values[index]]));
}

async function readKey(
  tx: XenstoreOperations,
  path: string,
  field: FieldSpec | NestedTree,
  options: OperationOptions,
): Promise<unknown> {
  if (field.type !== 'tree') return contentOf(field, path, await tx.tryRead(path, options));
  if (field.optional && !(await tx.exists(path, options))) return undefined;
  return readKeys(tx, path, field.keys, options);
}

function contentOf(field: FieldSpec, path: string, text: string | undefined): unknown {
  if (text === undefined) return valueOfMissing(field, path);
  const parsed = parseField(field, text);
  if ('value' in parsed) return parsed.value;
  const message = `it holds ${quoted(text)}, expected ${parsed.expected}`;
  throw new XenstoreError('ERR_INVALID_VALUE', 'read', message, { path });
}

function valueOfMissing(field: FieldSpec, path: string): unknown {
  if (field.default !== undefined || field.optional) return field.default;
  const expected = field.type === 'custom' ? field.expected : `a ${field.type}`;
  throw new XenstoreError('ENOENT', 'read', `no such node, expected ${expected}`, { path });
}

/** Paths below `path`, and what each is to hold; null for one that is to go. */
function* textsOf(path: string, schema: TreeSchema, changes: Values): Generator<readonly [string, string | null]> {
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) continue;
    const field = Object.hasOwn(schema, name) ? schema[name] : undefined;
    const key = `${path}/${name}`;
    if (field?.type !== 'tree' || value === null) yield [key, textOf(field, key, value)];
    else yield* textsOf(key, field.keys, changesOf(key, value));
  }
}

function changesOf(path: string, value: unknown): Values {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Values;
  const message = `${quoted(String(value))} is not an object of keys, or null`;
  throw new XenstoreError('ERR_INVALID_VALUE', 'write', message, { path });
}

function textOf(field: FieldSpec | NestedTree | undefined, path: string, value: unknown): string | null {
  if (field === undefined) {
    throw new XenstoreError('ERR_INVALID_ARGUMENT', 'write', 'the schema has no such key', { path });
  }
  if (value === null || field.type === 'tree') return null;
  const formatted = formatField(field, value);
  if ('text' in formatted) return formatted.text;
  const message = `${quoted(String(value))} is not ${formatted.expected}`;
  throw new XenstoreError('ERR_INVALID_VALUE', 'write', message, { path });
}
