import { ACCOUNTING_CLASSES, type DiskStatistics } from '@xenpv/xen-block';
import type { DiskReport } from '../../status/disks/device-status.js';

/** What a disk does in a second. */
export interface Rates {
  /** Requests a second, of all classes. */
  readonly iops: number;
  readonly readIops: number;
  readonly writeIops: number;
  /** Bytes a second. */
  readonly readBandwidth: number;
  readonly writeBandwidth: number;
  /** Microseconds from a request's taking to its answer; undefined where none was answered. */
  readonly latency: number | undefined;
}

/** A disk, and what it has done since the look before; `rates` are undefined at its first one. */
export interface MeasuredDisk {
  readonly disk: DiskReport;
  readonly rates: Rates | undefined;
}

interface Totals {
  readonly iops: number;
  readonly readIops: number;
  readonly writeIops: number;
  readonly readBandwidth: number;
  readonly writeBandwidth: number;
  readonly timeNs: number;
}

/** Makes rates of counters that are looked at again and again. */
export class RateMeter {
  #before = new Map<string, Totals>();
  #beforeMs = 0;

  /** `now` is in milliseconds, of a clock that never goes back. */
  measure(disks: readonly DiskReport[], now: number): MeasuredDisk[] {
    const seconds = (now - this.#beforeMs) / 1000;
    const totals = new Map(disks.map(({ device, statistics }) => [device, totalsOf(statistics)]));
    const measured = disks.map((disk) => {
      const [before, after] = [this.#before.get(disk.device), totals.get(disk.device)];
      return { disk, rates: before && after && ratesOf(before, after, seconds) };
    });
    this.#before = totals;
    this.#beforeMs = now;
    return measured;
  }
}

function totalsOf(statistics: DiskStatistics): Totals {
  const { read, write } = statistics;
  const all = ACCOUNTING_CLASSES.map((name) => statistics[name]);
  return {
    iops: all.reduce((sum, { operations }) => sum + operations, 0),
    readIops: read.operations,
    writeIops: write.operations,
    readBandwidth: read.bytes,
    writeBandwidth: write.bytes,
    timeNs: all.reduce((sum, { totalTimeNs }) => sum + totalTimeNs, 0),
  };
}

/** Undefined where counters have begun anew: by another daemon, or for another disk of that name. */
function ratesOf(before: Totals, after: Totals, seconds: number): Rates | undefined {
  const names = Object.keys(after) as (keyof Totals)[];
  if (seconds <= 0 || names.some((name) => after[name] < before[name])) return undefined;
  const rate = (name: keyof Totals) => (after[name] - before[name]) / seconds;
  const answered = after.iops - before.iops;
  return {
    iops: rate('iops'),
    readIops: rate('readIops'),
    writeIops: rate('writeIops'),
    readBandwidth: rate('readBandwidth'),
    writeBandwidth: rate('writeBandwidth'),
    latency: answered > 0 ? (after.timeNs - before.timeNs) / answered / 1000 : undefined,
  };
}
