import { ACCOUNTING_CLASSES, type DiskStatistics } from '@xenpv/xen-block';

/** Seconds between samples; an hour of them is kept. */
export const SAMPLE_SECONDS = 5;
const SAMPLES = 3600 / SAMPLE_SECONDS;
/** Disks with a history: 8.6 KB each. */
const MAX_DISKS = 2048;
/** A short history has so many points at most. */
const POINTS = 60;
/** Seconds that a point may stand for: for five minutes, a quarter of an hour, and an hour. */
const STEPS = [5, 15, 60] as const;

const FIGURES = ['iops', 'bandwidth', 'latency'] as const;
type Figure = (typeof FIGURES)[number];

/**
 * What a disk did, the oldest point first; the last one ends now. `iops` are requests a second, `bandwidth` bytes a second
 * in both directions, `latency` microseconds from a request's taking to its answer. Null where nothing is known, and of
 * the latency also where no request was answered.
 */
export type Series = { readonly stepSeconds: number } & Readonly<Record<Figure, readonly (number | null)[]>>;

/** A disk that can be told from another one of the same name, and its counters. */
export interface SampledDisk {
  readonly name: string;
  /** The same object as long as it is the same disk. */
  readonly identity: object;
  statistics(): DiskStatistics;
}

interface Totals {
  readonly operations: number;
  readonly bytes: number;
  readonly timeNs: number;
  readonly at: number;
}

interface Kept {
  readonly identity: object;
  /** Of the slot in which it was sampled last. */
  slot: number;
  totals: Totals;
  readonly figures: Readonly<Record<Figure, Float32Array>>;
}

/**
 * What each disk did in the last hour, in bounded memory. Time is a clock that never goes back; samples that were not
 * taken, because the process was stopped or the machine too busy, are gaps.
 */
export class DiskHistory {
  readonly #disks = new Map<string, Kept>();
  #firstSlot: number | undefined;
  #slot = 0;

  /**
   * Looks at these disks; those that are not among them are forgotten. `now` gives milliseconds; `turn` is awaited between
   * disks, so that nothing waits for all of them.
   */
  async sample(disks: Iterable<SampledDisk>, now: () => number, turn: () => Promise<void>): Promise<void> {
    const slot = Math.floor(now() / (SAMPLE_SECONDS * 1000));
    this.#firstSlot ??= slot;
    const seen = new Set<string>();
    for (const disk of disks) {
      seen.add(disk.name);
      this.#look(disk, slot, now());
      await turn();
    }
    for (const name of this.#disks.keys()) if (!seen.has(name)) this.#disks.delete(name);
    this.#slot = slot;
  }

  /** Each sample of the last hour. Undefined for a disk that has not been looked at. */
  whole(name: string): Series | undefined {
    return this.#series(name, SAMPLE_SECONDS, SAMPLES);
  }

  /** At most 60 points, which begin when the first sample was taken, and are means. */
  short(name: string): Series | undefined {
    const seconds = (this.#slot - (this.#firstSlot ?? this.#slot)) * SAMPLE_SECONDS;
    const step = STEPS.find((candidate) => candidate * POINTS >= seconds) ?? STEPS[STEPS.length - 1];
    return this.#series(name, step, POINTS);
  }

  /** Of the last sample. */
  latest(name: string): Record<Figure, number | null> | undefined {
    const kept = this.#disks.get(name);
    if (!kept) return undefined;
    const at = (figure: Figure) => valueAt(kept, figure, this.#slot);
    return { iops: at('iops'), bandwidth: at('bandwidth'), latency: at('latency') };
  }

  #series(name: string, stepSeconds: number, points: number): Series | undefined {
    const kept = this.#disks.get(name);
    if (!kept) return undefined;
    const each = stepSeconds / SAMPLE_SECONDS;
    const first = Math.max(this.#slot - each * points, this.#firstSlot ?? 0) + 1;
    const count = Math.ceil((this.#slot - first + 1) / each);
    const means = (figure: Figure) =>
      Array.from({ length: count }, (_, i) => meanUntil(kept, figure, this.#slot - (count - 1 - i) * each, each));
    return { stepSeconds, iops: means('iops'), bandwidth: means('bandwidth'), latency: means('latency') };
  }

  #look({ name, identity, statistics }: SampledDisk, slot: number, at: number): void {
    let kept = this.#disks.get(name);
    const totals = totalsOf(statistics(), at);
    if (kept?.identity !== identity) {
      if (!kept && this.#disks.size >= MAX_DISKS) return;
      const gaps = () => new Float32Array(SAMPLES).fill(Number.NaN);
      kept = { identity, slot, totals, figures: { iops: gaps(), bandwidth: gaps(), latency: gaps() } };
      this.#disks.set(name, kept);
      return;
    }
    for (let gap = Math.max(kept.slot + 1, slot - SAMPLES + 1); gap < slot; gap++) put(kept, gap, undefined);
    put(kept, slot, ratesOf(kept.totals, totals));
    kept.slot = slot;
    kept.totals = totals;
  }
}

function totalsOf(statistics: DiskStatistics, at: number): Totals {
  let [operations, bytes, timeNs] = [0, 0, 0];
  for (const name of ACCOUNTING_CLASSES) {
    operations += statistics[name].operations;
    timeNs += statistics[name].totalTimeNs;
  }
  for (const name of ['read', 'write'] as const) bytes += statistics[name].bytes;
  return { operations, bytes, timeNs, at };
}

/** Undefined where counters have begun anew. */
function ratesOf(before: Totals, after: Totals): Record<Figure, number> | undefined {
  const seconds = (after.at - before.at) / 1000;
  const operations = after.operations - before.operations;
  const bytes = after.bytes - before.bytes;
  const timeNs = after.timeNs - before.timeNs;
  if (seconds <= 0 || operations < 0 || bytes < 0 || timeNs < 0) return undefined;
  const latency = operations > 0 ? timeNs / operations / 1000 : Number.NaN;
  return { iops: operations / seconds, bandwidth: bytes / seconds, latency };
}

function put({ figures }: Kept, slot: number, rates: Record<Figure, number> | undefined): void {
  for (const figure of FIGURES) figures[figure][slot % SAMPLES] = rates?.[figure] ?? Number.NaN;
}

/** Null also for what is later than the disk's last sample. */
function valueAt(kept: Kept, figure: Figure, slot: number): number | null {
  if (slot > kept.slot || slot <= kept.slot - SAMPLES || slot < 0) return null;
  const value = kept.figures[figure][slot % SAMPLES];
  return Number.isNaN(value) ? null : short(value);
}

/** The mean of `count` samples, the last of which is `slot`. */
function meanUntil(kept: Kept, figure: Figure, slot: number, count: number): number | null {
  let [sum, known] = [0, 0];
  for (let at = slot - count + 1; at <= slot; at++) {
    const value = valueAt(kept, figure, at);
    if (value === null) continue;
    sum += value;
    known++;
  }
  return known === 0 ? null : short(sum / known);
}

/** Three digits: more nobody can see, and an answer with many disks is long. */
function short(value: number): number {
  return Number(value.toPrecision(3));
}
