/**
 * One xenstore key: a form that @xenpv/xenstore's typed trees take too. `type` bounds numbers: `uint` to 32 bits,
 * `uint64` to 2^53 - 1, `domid` to 0x7fff; a boolean is written as 0 or 1. Typed trees refuse a directory without a key
 * that is neither `optional` nor has a `default`; {@link parseKeys} looks at the default alone.
 */
export type KeyField =
  | { readonly type: 'string'; readonly optional?: true | undefined; readonly default?: string | undefined }
  | {
      readonly type: 'uint' | 'uint64' | 'domid';
      readonly optional?: true | undefined;
      readonly default?: number | undefined;
    }
  | { readonly type: 'boolean'; readonly optional?: true | undefined; readonly default?: boolean | undefined };

/** Keys of a directory, by name. */
export type KeySchema = Readonly<Record<string, KeyField>>;

type ValueOf<F extends KeyField> = F extends { type: 'boolean' }
  ? boolean
  : F extends { type: 'string' }
    ? string
    : number;

/** What {@link parseKeys} gives: undefined for a key without a default that is missing. */
export type KeyValues<S extends KeySchema> = {
  readonly [K in keyof S]: S[K] extends { default: NonNullable<unknown> } ? ValueOf<S[K]> : ValueOf<S[K]> | undefined;
};

/** What {@link formatKeys} takes: a key that is undefined is not published. */
export type PublishedValues<S extends KeySchema> = { readonly [K in keyof S]?: ValueOf<S[K]> | undefined };

const LARGEST = { uint: 0xffffffff, domid: 0x7fff, uint64: Number.MAX_SAFE_INTEGER } as const;

/**
 * The content of a key, or undefined where there is none of its type, as the other side may have written anything.
 * Numbers are decimal digits; a boolean is a number, true unless that is 0.
 */
export function parseKey<const F extends KeyField>(field: F, text: string | undefined): ValueOf<F> | undefined {
  return parse(field, text) as ValueOf<F> | undefined;
}

function parse({ type }: KeyField, text: string | undefined): string | number | boolean | undefined {
  if (type === 'string' || text === undefined) return text;
  const number = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (type === 'boolean') return Number.isNaN(number) ? undefined : number !== 0;
  return number <= LARGEST[type] ? number : undefined;
}

/** The contents of all keys of a schema; a default stands for what is missing or of another type. */
export function parseKeys<const S extends KeySchema>(
  schema: S,
  texts: Readonly<Record<string, string | undefined>>,
): KeyValues<S> {
  const values = Object.entries(schema).map(([key, field]) => [key, parse(field, texts[key]) ?? field.default]);
  return Object.fromEntries(values) as KeyValues<S>;
}

/** The texts of what is to be published: the reverse of {@link parseKeys}. */
export function formatKeys<const S extends KeySchema>(schema: S, values: PublishedValues<S>): Record<string, string> {
  const texts = Object.keys(schema).flatMap((key) => {
    const value = values[key];
    return value === undefined ? [] : [[key, typeof value === 'boolean' ? String(Number(value)) : String(value)]];
  });
  return Object.fromEntries(texts);
}
