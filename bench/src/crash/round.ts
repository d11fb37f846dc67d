import { Random } from '../program/random.js';
import { CrashHost, type GuestResult, type Happening } from './crash-host.js';
import { Killer, type KillerFigures } from './killer.js';
import type { Setup } from './setup.js';

/** What is broken on purpose, to see that it is found. */
export const BREAKS = ['none', 'journal', 'storage'] as const;
export type Break = (typeof BREAKS)[number];

export interface RoundOptions {
  readonly kills: number;
  readonly over: AbortSignal;
  /** Where images, logs and the host's folder go. */
  readonly folder: string;
  readonly breaks: Break;
  readonly happenings: readonly Happening[];
  /** How old anything that is waited for may become. */
  readonly patienceMs: number;
  readonly progress: (kills: number) => void;
}

export interface RoundResult extends KillerFigures, GuestResult {
  readonly seconds: number;
}

/** A host, its guests, and a daemon that is killed. */
export async function runRound(setup: Setup, options: RoundOptions): Promise<RoundResult> {
  const began = performance.now();
  const guests = await CrashHost.prepare({ ...options, setup });
  const killer = killerOf(guests, setup, options);
  try {
    await run(guests, killer);
  } finally {
    await guests.keepEvidence();
    await guests.abandon();
    await killer.abandon();
    await guests.close();
  }
  return { ...killer.figures, ...guests.result(), seconds: (performance.now() - began) / 1000 };
}

function killerOf(guests: CrashHost, { seed }: Setup, options: RoundOptions): Killer {
  const { kills, over, breaks, patienceMs, progress } = options;
  const random = new Random(seed ^ 0x5eed);
  return new Killer({
    daemon: guests.daemon,
    random,
    watch: guests.watch,
    kills,
    over,
    patienceMs,
    oldest: () => guests.oldest().ms,
    operations: () => guests.figures.reduce((sum, { operations }) => sum + operations, 0),
    longest: () => Math.max(...guests.figures.map((figures) => figures.takeLongest())),
    between: () => {
      if (breaks === 'journal') guests.loseJournal();
      if (breaks === 'storage') guests.loseSectors(random);
    },
    progress,
  });
}

async function run(guests: CrashHost, killer: Killer): Promise<void> {
  const { failed } = guests.watch;
  const ending = new AbortController();
  try {
    const killing = killer.run();
    await guests.boot();
    const happening = guests.happen(ending.signal);
    await killing;
    ending.abort();
    await happening;
    if (failed.aborted) return;
    await guests.finish();
    if (failed.aborted) return;
    await killer.finish();
    await guests.verify();
  } finally {
    ending.abort();
  }
}
