/** One thing that is wrong in the configuration file. Line and column count from 1; undefined where the file cannot be read. */
export interface ConfigProblem {
  readonly file: string;
  readonly line: number | undefined;
  readonly column: number | undefined;
  /** The key, with the index of a wrong element: `types.0`; undefined for what is no TOML. */
  readonly key: string | undefined;
  /** What is there, as text without control characters; what the parser says where the file is no TOML. */
  readonly found: string;
  /** What may be there. */
  readonly allowed: string | undefined;
  /** The nearest right name or value. */
  readonly suggestion: string | undefined;
  /** The line's text, for what is no TOML. */
  readonly source?: string;
}

/** `FILE:LINE:COLUMN: key: found …; allowed: …; did you mean …?`, and for what is no TOML the line with a caret. */
export function formatProblem({ file, line, column, key, found, allowed, suggestion, source }: ConfigProblem): string {
  const place = line === undefined ? file : `${file}:${line}:${column ?? 1}`;
  const parts = [key === undefined ? found : `${key}: found ${found}`];
  if (allowed !== undefined) parts.push(`allowed: ${allowed}`);
  if (suggestion !== undefined) parts.push(`did you mean ${suggestion}?`);
  const caret = source === undefined ? '' : `\n    ${source}\n    ${' '.repeat((column ?? 1) - 1)}^`;
  return `${place}: ${parts.join('; ')}${caret}`;
}

/** A value of the file as text: short, on one line, without control characters. */
export function describeValue(value: unknown): string {
  const text =
    typeof value === 'number' || typeof value === 'bigint' || value instanceof Date
      ? String(value)
      : (JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? String(inner) : inner)) ?? String(value));
  const printable = withoutControls(text);
  return printable.length > 80 ? `${printable.slice(0, 79)}…` : printable;
}

/** One column for each UTF-16 unit, so that a caret below it fits. */
export function withoutControls(text: string): string {
  return text.replace(/\p{Cc}|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, ' ');
}

/** The candidate that `name` was probably meant to be, or undefined. */
export function nearest(name: string, candidates: readonly string[]): string | undefined {
  // A longer name is no slip of a finger, and the distance costs its length.
  if (name.length > 64) return undefined;
  const plain = name.toLowerCase().replaceAll('_', '-');
  let best: string | undefined;
  let least = Math.max(1, Math.floor(plain.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(plain, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

/** Levenshtein's distance, where two letters in the wrong order are one mistake (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const exchanged = swapped ? (before[j - 2] ?? 0) + 1 : replaced;
      next.push(Math.min(replaced, exchanged, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
