import { setTimeout as sleep } from 'node:timers/promises';
import { CrashHost, type CrashHostOptions, type GuestResult } from '../crash/crash-host.js';
import { DaemonLife } from '../crash/daemon.js';
import { growthOf } from './growth.js';
import { look, type Sample } from './sample.js';

/** How long what a detach gives back may take to be back. */
const REST_MS = 10_000;
const POLL_MS = 500;
const STOP_MS = 30_000;

export interface SoakOptions extends CrashHostOptions {
  readonly milliseconds: number;
  /** From one sample to the next. */
  readonly lapMs: number;
  readonly over: AbortSignal;
  readonly progress: (sample: Sample) => void;
}

export interface SoakResult extends GuestResult {
  readonly samples: readonly Sample[];
  /** What has grown; see growthOf. */
  readonly grown: readonly string[];
  readonly seconds: number;
}

/** One daemon, for a long time, under guests that work, come and go. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const began = performance.now();
  const guests = await CrashHost.prepare(options);
  const daemon = new DaemonLife({ ...guests.daemon, number: 0 });
  const samples: Sample[] = [];
  void daemon.ended.then(({ code, signal }) => {
    if (code !== 0) guests.watch.fail(`the daemon ended with ${code ?? signal}, see ${daemon.log}`);
  });
  try {
    daemon.begin();
    await daemon.ready;
    await guests.boot();
    while (performance.now() - began < options.milliseconds && !options.over.aborted && !guests.watch.failed.aborted) {
      await lap(guests, options);
      if (guests.watch.failed.aborted) break;
      samples.push({ seconds: Math.round((performance.now() - began) / 1000), ...(await atRest(guests, daemon)) });
      options.progress(samples[samples.length - 1]);
    }
    if (!guests.watch.failed.aborted) await end(guests, daemon);
    for (const fault of daemon.faults) guests.watch.fail(`the daemon, ${daemon.log}: ${fault}`);
  } finally {
    await guests.keepEvidence();
    await guests.abandon();
    daemon.signal('SIGKILL');
    await daemon.ended;
    await guests.close();
  }
  return { ...guests.result(), samples, grown: growthOf(samples), seconds: (performance.now() - began) / 1000 };
}

/** Things happen for a while, then everything that has begun comes to its end. */
async function lap(guests: CrashHost, { lapMs, over }: SoakOptions): Promise<void> {
  const ending = new AbortController();
  const end = () => ending.abort();
  const timer = setTimeout(end, lapMs);
  over.addEventListener('abort', end);
  await guests.happen(ending.signal);
  over.removeEventListener('abort', end);
  clearTimeout(timer);
}

/** A sample when two in a row have the same counts, or when that takes too long. */
async function atRest(guests: CrashHost, daemon: DaemonLife): Promise<Omit<Sample, 'seconds'>> {
  const until = performance.now() + REST_MS;
  // Without work V8 leaves garbage where it is for many minutes.
  daemon.collect();
  await sleep(POLL_MS);
  for (let before = ''; ; ) {
    const sample = look(guests, daemon.pid, guests.hostFolder);
    const counts = JSON.stringify(sample.counts);
    if (counts === before || performance.now() > until) return sample;
    before = counts;
    await sleep(POLL_MS);
  }
}

/** Everything is read once more, the daemon told to end, the images compared. */
async function end(guests: CrashHost, daemon: DaemonLife): Promise<void> {
  await guests.finish();
  daemon.signal('SIGTERM');
  const ended = await Promise.race([daemon.ended, sleep(STOP_MS, undefined, { ref: false })]);
  if (ended?.code !== 0) guests.watch.fail(`the daemon did not end in order within ${STOP_MS / 1000} s of SIGTERM`);
  await guests.verify();
}
