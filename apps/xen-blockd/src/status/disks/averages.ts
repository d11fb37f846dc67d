import { formatBandwidth, formatRate } from '../format.js';

/** What a disk did in a second, on average over a time. */
export interface AverageRates {
  /** How long that time was: less than the window for a disk, or a daemon, that is younger. */
  readonly seconds: number;
  /** Requests a second, of all classes. */
  readonly iops: number;
  readonly readIops: number;
  readonly writeIops: number;
  /** Bytes a second. */
  readonly readBandwidth: number;
  readonly writeBandwidth: number;
}

/** Seconds of each window. */
export const WINDOWS = { minute: 60, fiveMinutes: 300 } as const;
export type AverageWindow = keyof typeof WINDOWS;

/** Those up to the last look at the disk; none until it was looked at twice. */
export type Averages = { readonly [W in AverageWindow]?: AverageRates | undefined };

/** Seconds between two looks. */
export const LOOK_SECONDS = 5;

/** An average in words, with the time that it is of where that is not the window. */
export function averageText(averages: Averages, window: AverageWindow): string {
  const average = averages[window];
  if (!average) return 'not known yet';
  const { seconds, iops, readIops, writeIops, readBandwidth, writeBandwidth } = average;
  const isWhole = Math.abs(seconds - WINDOWS[window]) <= LOOK_SECONDS;
  const requests = `${formatRate(iops)} IOPS (read ${formatRate(readIops)}, write ${formatRate(writeIops)})`;
  const bytes = `read ${formatBandwidth(readBandwidth)} MB/s, write ${formatBandwidth(writeBandwidth)} MB/s`;
  return `${requests}, ${bytes}${isWhole ? '' : `; of ${Math.round(seconds)} s`}`;
}
