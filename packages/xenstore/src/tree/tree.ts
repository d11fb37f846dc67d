import type { OperationOptions, XenstoreOperations } from '../client/operations.js';
import { quoted, XenstoreError } from '../errors.js';
import { type FieldSpec, type FieldValue, formatField, parseField } from './fields.js';

/** The keys of a directory: names relative to it, and what each holds. Plain data; write it `as const satisfies`. */
export type TreeSchema = Readonly<Record<string, FieldSpec>>;

/** A directory as {@link readTree} gives it: every key of the schema; undefined for an optional one that is missing. */
export type TreeValues<S extends TreeSchema> = {
  readonly [K in keyof S]: S[K] extends { optional: true }
    ? S[K] extends { default: unknown }
      ? FieldValue<S[K]>
      : FieldValue<S[K]> | undefined
    : FieldValue<S[K]>;
};

/** What {@link writeTree} takes: undefined or left out leaves a key as it is, null removes it. */
export type TreeChanges<S extends TreeSchema> = { readonly [K in keyof S]?: FieldValue<S[K]> | null | undefined };

/** Node operations; a client, which also has transactions, is given its own one. */
export interface TreeOperations extends XenstoreOperations {
  transaction?<T>(fn: (transaction: XenstoreOperations) => Promise<T>, options?: OperationOptions): Promise<T>;
}

/**
 * Reads a directory as one object. Given a client, in one transaction, so that the values belong together.
 * Rejects with ERR_INVALID_VALUE for a key with other content than the schema says (the message names path, text and
 * what was expected), with ENOENT for a missing one that is neither optional nor has a default.
 */
export function readTree<const S extends TreeSchema>(
  operations: TreeOperations,
  path: string,
  schema: S,
  options: OperationOptions = {},
): Promise<TreeValues<S>> {
  return together(operations, options, async (tx) => {
    const names = Object.keys(schema);
    const texts = await Promise.all(names.map((name) => tx.tryRead(`${path}/${name}`, options)));
    const values = names.map((name, index) => contentOf(schema[name], `${path}/${name}`, texts[index]));
    return Object.fromEntries(names.map((name, index) => [name, values[index]])) as TreeValues<S>;
  });
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
  const texts = Object.entries(changes as Record<string, unknown>)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [`${path}/${name}`, textOf(schema[name], `${path}/${name}`, value)] as const);
  await together(operations, options, async (tx) => {
    await Promise.all(
      texts.map(([key, text]) => (text === null ? tx.remove(key, options) : tx.write(key, text, options))),
    );
  });
}

function together<T>(
  operations: TreeOperations,
  options: OperationOptions,
  fn: (operations: XenstoreOperations) => Promise<T>,
): Promise<T> {
  return operations.transaction === undefined ? fn(operations) : operations.transaction(fn, options);
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
  throw new XenstoreError('ENOENT', 'read', `no such node, expected a ${field.type}`, { path });
}

function textOf(field: FieldSpec | undefined, path: string, value: unknown): string | null {
  if (field === undefined) {
    throw new XenstoreError('ERR_INVALID_ARGUMENT', 'write', 'the schema has no such key', { path });
  }
  if (value === null) return null;
  const formatted = formatField(field, value);
  if ('text' in formatted) return formatted.text;
  const message = `${quoted(String(value))} is not ${formatted.expected}`;
  throw new XenstoreError('ERR_INVALID_VALUE', 'write', message, { path });
}
