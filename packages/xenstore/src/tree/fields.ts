/** Whether a key must be there, and what stands for one that is not. */
interface Presence<T> {
  /** Missing reads as undefined. */
  readonly optional?: true;
  /** Missing reads as this. */
  readonly default?: T;
}

/**
 * One key of a directory. Numbers are decimal digits and nothing else, `-` only before an `int`; `uint` goes to
 * 2^32 - 1, `uint64` to 2^53 - 1 (a number) and `bigint` to 2^64 - 1; `boolean` is `0` or `1`; a `list` is split at its
 * separator, a space by default, and empty text is the empty list.
 */
export type FieldSpec =
  | ({ readonly type: 'string' } & Presence<string>)
  | ({ readonly type: 'uint' | 'int' | 'uint64' | 'domid' } & NumberRange & Presence<number>)
  | ({ readonly type: 'bigint' } & Presence<bigint>)
  | ({ readonly type: 'boolean' } & Presence<boolean>)
  | ({ readonly type: 'enum'; readonly values: readonly string[] } & Presence<string>)
  | ({ readonly type: 'list'; readonly of: ListItem; readonly separator?: string } & Presence<readonly unknown[]>);

interface NumberRange {
  readonly min?: number;
  readonly max?: number;
}

type ListItem = 'string' | 'uint' | 'int' | 'uint64' | 'domid';

interface ScalarValues {
  string: string;
  uint: number;
  int: number;
  uint64: number;
  domid: number;
  bigint: bigint;
  boolean: boolean;
}

/** The TypeScript type of a key's content. */
export type FieldValue<F extends FieldSpec> = F extends { type: 'enum'; values: readonly (infer V)[] }
  ? V
  : F extends { type: 'list'; of: infer I extends ListItem }
    ? readonly ScalarValues[I][]
    : F extends { type: infer T extends keyof ScalarValues }
      ? ScalarValues[T]
      : never;

/** A parsed content, or what was expected instead. */
export type Parsed = { readonly value: unknown } | { readonly expected: string };

const RANGES = {
  uint: [0, 0xffffffff],
  int: [-0x80000000, 0x7fffffff],
  uint64: [0, Number.MAX_SAFE_INTEGER],
  domid: [0, 0x7fff],
} as const;

const DECIMAL = /^-?(?:0|[1-9][0-9]*)$/;
const LARGEST_U64 = 2n ** 64n - 1n;

/** Reads the text of a key. Strict: a guest may have written it. */
export function parseField(field: FieldSpec, text: string): Parsed {
  switch (field.type) {
    case 'string':
      return { value: text };
    case 'boolean':
      return text === '0' || text === '1' ? { value: text === '1' } : { expected: '0 or 1' };
    case 'enum':
      return field.values.includes(text) ? { value: text } : { expected: `one of ${field.values.join(', ')}` };
    case 'bigint':
      return parseBigInt(text);
    case 'list':
      return parseList(field.of, text === '' ? [] : text.split(field.separator ?? ' '));
    default:
      return parseNumber(field.type, text, field);
  }
}

/** The text of a value, or what was expected instead: the reverse of {@link parseField}. */
export function formatField(
  field: FieldSpec,
  value: unknown,
): { readonly text: string } | { readonly expected: string } {
  const text = textOf(field, value);
  const parsed = parseField(field, text);
  return 'expected' in parsed ? parsed : { text };
}

function textOf(field: FieldSpec, value: unknown): string {
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (field.type === 'list' && Array.isArray(value)) return value.join(field.separator ?? ' ');
  return String(value);
}

function parseNumber(type: keyof typeof RANGES, text: string, range: NumberRange): Parsed {
  const minimum = range.min ?? RANGES[type][0];
  const maximum = range.max ?? RANGES[type][1];
  const value = DECIMAL.test(text) && text !== '-0' ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return { value };
  return { expected: `a whole number from ${minimum} to ${maximum}` };
}

function parseBigInt(text: string): Parsed {
  const value = /^(?:0|[1-9][0-9]{0,19})$/.test(text) ? BigInt(text) : -1n;
  return value >= 0n && value <= LARGEST_U64 ? { value } : { expected: `a whole number from 0 to ${LARGEST_U64}` };
}

function parseList(of: ListItem, items: readonly string[]): Parsed {
  const value: unknown[] = [];
  for (const item of items) {
    const parsed = parseField({ type: of }, item);
    if ('expected' in parsed) return { expected: `a list, each ${parsed.expected}` };
    value.push(parsed.value);
  }
  return { value };
}
