import { printable } from '@xenpv/xenbus';
import type { MetricFamily } from './catalogue.js';

/** Names and values of labels; the values may come from anybody. */
export type Labels = Readonly<Record<string, string | number | undefined>>;

/** The labels as Prometheus's text format has them, without braces: `device="qdisk-5-51712",domid="5"`. */
export function labelText(names: readonly string[], labels: Labels): string {
  return names.map((name) => `${name}="${escaped(printable(`${labels[name] ?? ''}`))}"`).join(',');
}

const LINES_A_PIECE = 500;

/** In a label's value a backslash, a quotation mark and a line's end would be something else. */
function escaped(value: string): string {
  return value.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}

/**
 * The answer to a scrape in Prometheus's text format, in which all values of a metric stand together. Each metric is
 * there with its type, also without a value.
 */
export class MetricsText {
  readonly #lines = new Map<string, string[]>();

  /** Metrics are told of in this order. */
  declare(families: Readonly<Record<string, MetricFamily>>): void {
    for (const [name, { type, help }] of Object.entries(families)) {
      this.#lines.set(name, [`# HELP ${name} ${help.replaceAll('\\', '\\\\')}`, `# TYPE ${name} ${type}`]);
    }
  }

  /** `labels` is of {@link labelText}. An undefined value is none. */
  add(name: string, labels: string, value: number | undefined): void {
    if (value !== undefined) this.#linesOf(name).push(labels ? `${name}{${labels}} ${value}` : `${name} ${value}`);
  }

  /** `buckets` are counts of at most so many seconds each, the smaller ones included; the last one has all. */
  addHistogram(name: string, labels: string, { buckets, sum }: HistogramValues): void {
    const lines = this.#linesOf(name);
    for (const [le, count] of buckets) lines.push(`${name}_bucket{${labels},le="${formatLimit(le)}"} ${count}`);
    lines.push(`${name}_sum{${labels}} ${sum}`, `${name}_count{${labels}} ${buckets[buckets.length - 1][1]}`);
  }

  /** In pieces, none of which takes long to make. */
  *pieces(): Generator<string> {
    for (const lines of this.#lines.values()) {
      for (let at = 0; at < lines.length; at += LINES_A_PIECE) {
        yield `${lines.slice(at, at + LINES_A_PIECE).join('\n')}\n`;
      }
    }
  }

  toString(): string {
    return [...this.pieces()].join('');
  }

  #linesOf(name: string): string[] {
    const lines = this.#lines.get(name);
    if (!lines) throw new Error(`${name} is not in the catalogue of metrics`);
    return lines;
  }
}

/** A histogram as Prometheus has it. */
export interface HistogramValues {
  readonly buckets: readonly (readonly [limit: number, count: number])[];
  readonly sum: number;
}

function formatLimit(limit: number): string {
  return limit === Number.POSITIVE_INFINITY ? '+Inf' : `${limit}`;
}
