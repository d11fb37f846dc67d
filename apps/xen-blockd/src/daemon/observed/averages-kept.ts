import { setImmediate } from 'node:timers/promises';
import { ACCOUNTING_CLASSES, type DiskStatistics } from '@xenpv/xen-block';
import { type AverageRates, type Averages, LOOK_SECONDS, WINDOWS } from '../../status/disks/averages.js';
import type { SampledDisk } from '../../status/page/history.js';

const STEP_MS = 1000 * LOOK_SECONDS;
/** A timer is late now and then: a sample that is nearly as old as a window begins it. */
const TOLERANCE_MS = STEP_MS / 2;
const KEPT_MS = 1000 * WINDOWS.fiveMinutes + STEP_MS;

/** Counters at an instant. */
interface Sample extends Omit<AverageRates, 'seconds'> {
  readonly at: number;
}

interface Kept {
  readonly identity: object;
  /** The oldest first. */
  samples: readonly Sample[];
}

/**
 * What each disk did on average in the last minutes. All are looked at every few seconds, outside of the data path, and
 * what is kept of a disk is bounded: the samples of five minutes.
 */
export class AveragesKept implements Disposable {
  readonly #disks = new Map<string, Kept>();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  /** Looks at these again and again, until it is disposed of. */
  start(disks: () => Iterable<SampledDisk>): void {
    if (this.#ended) return;
    this.#timer = setTimeout(() => {
      void this.sample(disks(), () => performance.now(), setImmediate)
        .catch(() => {})
        .finally(() => this.start(disks));
    }, STEP_MS).unref();
  }

  /**
   * Looks at these disks; those that are not among them are forgotten. `now` gives milliseconds of a clock that never goes
   * back; `turn` is awaited between disks, so that nothing waits for all of them.
   */
  async sample(disks: Iterable<SampledDisk>, now: () => number, turn: () => Promise<unknown>): Promise<void> {
    const seen = new Set<string>();
    for (const disk of disks) {
      seen.add(disk.name);
      this.#look(disk, now());
      await turn();
    }
    for (const name of this.#disks.keys()) if (!seen.has(name)) this.#disks.delete(name);
  }

  /** Of the disk of this name, if it is still the same one. */
  of(name: string, identity: object): Averages {
    const kept = this.#disks.get(name);
    if (kept?.identity !== identity) return {};
    return {
      minute: averageOf(kept.samples, WINDOWS.minute),
      fiveMinutes: averageOf(kept.samples, WINDOWS.fiveMinutes),
    };
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #look({ name, identity, statistics }: SampledDisk, at: number): void {
    const sample = sampleOf(statistics(), at);
    const kept = this.#disks.get(name);
    const before = kept?.identity === identity ? kept.samples : [];
    const last = before.at(-1);
    // Counters that have begun anew are those of another connection.
    const goesOn = last !== undefined && COUNTED.every((counter) => sample[counter] >= last[counter]);
    const samples = goesOn ? before.filter((old) => at - old.at <= KEPT_MS) : [];
    this.#disks.set(name, { identity, samples: [...samples, sample] });
  }
}

const COUNTED = ['iops', 'readIops', 'writeIops', 'readBandwidth', 'writeBandwidth'] as const;

function sampleOf(statistics: DiskStatistics, at: number): Sample {
  const { read, write } = statistics;
  return {
    at,
    iops: ACCOUNTING_CLASSES.reduce((sum, name) => sum + statistics[name].operations, 0),
    readIops: read.operations,
    writeIops: write.operations,
    readBandwidth: read.bytes,
    writeBandwidth: write.bytes,
  };
}

/** From the youngest sample that is as old as the window, or else the oldest. */
function averageOf(samples: readonly Sample[], windowSeconds: number): AverageRates | undefined {
  const last = samples.at(-1);
  if (!last) return undefined;
  const begun = last.at - 1000 * windowSeconds + TOLERANCE_MS;
  const first = samples.findLast(({ at }) => at <= begun) ?? samples[0];
  const seconds = (last.at - first.at) / 1000;
  if (seconds <= 0) return undefined;
  const [iops, readIops, writeIops, readBandwidth, writeBandwidth] = COUNTED.map(
    (counter) => Math.round((100 * (last[counter] - first[counter])) / seconds) / 100,
  );
  return { seconds: Math.round(10 * seconds) / 10, iops, readIops, writeIops, readBandwidth, writeBandwidth };
}
