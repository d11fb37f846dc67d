import { setTimeout as sleep } from 'node:timers/promises';
import { BlockdError } from '../../errors.js';
import { chosen, type Filters } from '../queries/filters.js';
import { disksOf, type QueryOptions } from '../queries/query.js';
import { type MeasuredDisk, RateMeter } from './rates.js';

/** What a look at the daemon has found: its disks, or why there is no answer. */
export type Look = { readonly disks: readonly MeasuredDisk[] } | { readonly away: string };

/** What is watched, and how. */
export interface Watched extends QueryOptions, Filters {
  /** Between the beginnings of two looks. */
  readonly seconds: number;
  /** Aborted when nobody watches any more. */
  readonly signal: AbortSignal;
}

/** The longest that an answer is waited for, in milliseconds: what hangs is to be shown. */
const ANSWER_MS = 5000;

/**
 * Looks at the disks again and again, until `signal` is aborted. A daemon that goes away is told, and looked for again.
 * Error: ERR_SOCKET, no daemon answers the first look.
 */
export async function* looks(watched: Watched): AsyncGenerator<Look, void> {
  const { seconds, signal } = watched;
  const meter = new RateMeter();
  let answered = false;
  while (!signal.aborted) {
    const began = performance.now();
    try {
      const disks = await disksOf(watched, { command: 'x-query-disks', answerMs: ANSWER_MS }, signal);
      answered = true;
      yield { disks: meter.measure(chosen(disks, watched), performance.now()) };
    } catch (error) {
      if (signal.aborted) return;
      if (!answered || !(error instanceof BlockdError)) throw error;
      yield { away: error.message };
    }
    const rest = began + seconds * 1000 - performance.now();
    await sleep(Math.max(0, rest), undefined, { signal }).catch(() => {});
  }
}
