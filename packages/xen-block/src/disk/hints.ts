import { type KeySchema, type KeyValues, parseKeys } from '@xenpv/blkif';
import { type OperationOptions, readTree, type XenstoreOperations } from '@xenpv/xenstore';

/**
 * Reads keys of a directory, given a client in one transaction, as Linux's xenbus_scanf does with "%u": a number is the digits at the
 * beginning, what is no number is the default, and nothing of that is an error. Toolstacks and frontends write `true`,
 * an empty value, or 2 for yes into keys that only hint, and no disk may be refused for it.
 */
export async function readHints<const S extends KeySchema>(
  store: XenstoreOperations,
  path: string,
  schema: S,
  options: OperationOptions = {},
): Promise<KeyValues<S>> {
  const names = Object.keys(schema);
  const texts = await readTree(store, path, Object.fromEntries(names.map((name) => [name, TEXT])), options);
  const digits = names.map((name) => [name, schema[name].type === 'string' ? texts[name] : digitsOf(texts[name])]);
  return parseKeys(schema, Object.fromEntries(digits));
}

const TEXT = { type: 'string', optional: true } as const;

function digitsOf(text: string | undefined): string | undefined {
  return text === undefined ? undefined : /^\s*([0-9]+)/.exec(text)?.[1];
}
