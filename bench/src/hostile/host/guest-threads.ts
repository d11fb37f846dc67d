import { Worker } from 'node:worker_threads';
import type { EmulatedHost } from '@xenpv/emulator';
import type { GuestMessage, GuestStart, GuestWish } from '../../threads/hostile-guest.js';
import { Guest } from '../guest/guest.js';
import type { GuestPlan, GuestReport, World } from '../guest/plan.js';
import { TracedRace } from '../guest/race.js';

/** Guests that run somewhere. */
export interface RunningGuests {
  /** Of each guest; rejects with the first thing that is wrong. */
  readonly reports: Promise<GuestReport[]>;
  /** The victim may end. */
  stop(): void;
  /** Answered requests so far. */
  answered(): number;
  terminate(): Promise<void>;
}

/** On this thread, one turn after the other: the same each time, where the storage is too. */
export function runHere(
  xen: EmulatedHost,
  plans: readonly GuestPlan[],
  worldOf: (plan: GuestPlan) => World,
  races: boolean,
): RunningGuests {
  const guests = plans.map((plan) => {
    const race = races && !plan.victim ? (memory: ArrayBufferLike) => new TracedRace(memory) : undefined;
    return new Guest(plan, xen.provider(plan.domid), worldOf(plan), race);
  });
  return {
    reports: Promise.all(guests.map((guest) => guest.run())),
    stop: () => {
      for (const guest of guests) guest.stop();
    },
    answered: () => guests.reduce((sum, { answered }) => sum + answered, 0),
    terminate: async () => {
      for (const guest of guests) guest.abort();
    },
  };
}

/** On a thread of their own. */
export function runOnThread(
  xen: EmulatedHost,
  plans: readonly GuestPlan[],
  worldOf: (plan: GuestPlan) => World,
  races: boolean,
): RunningGuests {
  const workerData: GuestStart = {
    guests: plans.map((plan) => ({ plan, data: xen.provider(plan.domid).share().data })),
    races,
  };
  const worker = new Worker(new URL('./threads/hostile-guest.js', import.meta.url), { workerData });
  const worlds = plans.map(worldOf);
  let answered = 0;
  const reports = new Promise<GuestReport[]>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('message', (message: GuestMessage) => {
      if ('failed' in message) reject(new Error(message.failed));
      else if ('reports' in message) resolve([...message.reports]);
      else if ('wish' in message) grant(worker, worlds[message.guest], message);
      else answered = message.answered;
    });
  });
  return {
    reports,
    stop: () => worker.postMessage('stop'),
    answered: () => answered,
    terminate: async () => void (await worker.terminate()),
  };
}

function grant(worker: Worker, world: World, { guest, wish }: GuestWish): void {
  const tell = (error?: Error) => worker.postMessage({ guest, error: error?.stack });
  world[wish]().then(
    () => tell(),
    (error) => tell(error),
  );
}
