import type { Domid, EvtchnPort, Gref } from '@xenpv/xen-sys';

/** Whether a key must be there, and what stands for one that is not. */
interface Presence<T> {
  /** Missing reads as undefined. */
  readonly optional?: true | undefined;
  /** Missing reads as this. */
  readonly default?: T | undefined;
}

/**
 * One key of a directory. Numbers are decimal digits and nothing else, `-` only before an `int`; `uint`, `gref` and `port`
 * go to 2^32 - 1, `domid` to 0x7fff, `uint64` to 2^53 - 1 (a number) and `bigint` to 2^64 - 1; `boolean` is `0` or `1`;
 * empty text is the empty `list`; a `custom` one is {@link CustomField}.
 */
export type FieldSpec =
  | ({ readonly type: 'string' } & Presence<string>)
  | ({ readonly type: NumberType } & NumberRange & Presence<number>)
  | ({ readonly type: 'bigint' } & Presence<bigint>)
  | ({ readonly type: 'boolean' } & Presence<boolean>)
  | ({
      readonly type: 'enum';
      /** The texts that are allowed. */
      readonly values: readonly string[];
    } & Presence<string>)
  | ({
      readonly type: 'list';
      /** What each item is. */
      readonly of: ListItem;
      /** What stands between two items; a space by default. */
      readonly separator?: string | undefined;
    } & Presence<readonly unknown[]>)
  // `any`: what the reader of a field gives is what its writer takes, which only FieldValue can say.
  // biome-ignore lint/suspicious/noExplicitAny: see above.
  | CustomField<any>;

/**
 * A key whose content has a form of its own. Its value must be what JSON can tell apart, for `watchTree` compares so.
 *
 * @example
 * ```ts
 * import { type CustomField, treeSchema } from '@xenpv/xenstore';
 *
 * const mac: CustomField<Uint8Array> = {
 *   type: 'custom',
 *   expected: 'six bytes, as 00:16:3e:00:00:01',
 *   parse: (text) => (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : undefined),
 *   format: (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
 * };
 * export const vifKeys = treeSchema({ mac, mtu: { type: 'uint', default: 1500 } });
 * ```
 */
export interface CustomField<T> extends Presence<T> {
  /** Tells it from the types that are known here. */
  readonly type: 'custom';
  /** What is expected, for errors: `six bytes, as 00:16:3e:00:00:01`. */
  readonly expected: string;
  /** The value of a text, or undefined for one that is wrong: a guest may have written it. What it throws is wrong too. */
  readonly parse: (text: string) => T | undefined;
  /** The text of a value; `String` by default. `parse` must take it. */
  readonly format?: ((value: T) => string) | undefined;
}

interface NumberRange {
  /** The smallest number that is allowed; that of the type by default. */
  readonly min?: number | undefined;
  /** The largest number that is allowed; that of the type by default. */
  readonly max?: number | undefined;
}

type NumberType = 'uint' | 'int' | 'uint64' | 'domid' | 'gref' | 'port';

type ListItem = 'string' | NumberType;

interface ScalarValues {
  string: string;
  uint: number;
  int: number;
  uint64: number;
  domid: Domid;
  gref: Gref;
  port: EvtchnPort;
  bigint: bigint;
  boolean: boolean;
}

/** The TypeScript type of a key's content. */
export type FieldValue<F extends FieldSpec> = F extends { type: 'enum'; values: readonly (infer V)[] }
  ? V
  : F extends { type: 'list'; of: infer I extends ListItem }
    ? readonly ScalarValues[I][]
    : F extends { type: 'custom'; parse: (text: string) => infer T }
      ? Exclude<T, undefined>
      : F extends { type: infer T extends keyof ScalarValues }
        ? ScalarValues[T]
        : never;

/** A parsed content, or what was expected instead. */
export type Parsed = { readonly value: unknown } | { readonly expected: string };

const RANGES = {
  uint: [0, 0xffffffff],
  gref: [0, 0xffffffff],
  port: [0, 0xffffffff],
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
    case 'custom':
      return parseCustom(field, text);
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
  if (field.type === 'custom') return (field.format ?? String)(value);
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (field.type === 'list' && Array.isArray(value)) return value.join(field.separator ?? ' ');
  return String(value);
}

function parseCustom({ parse, expected }: CustomField<unknown>, text: string): Parsed {
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    // Wrong text, to whoever wrote the parser as to one who returns undefined.
  }
  return value === undefined ? { expected } : { value };
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
