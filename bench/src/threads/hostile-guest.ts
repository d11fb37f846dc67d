/** A thread of guests, each of which does with its disk what its plan says, and checks every answer. */
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { attachProvider } from '@xenpv/emulator';
import { Guest } from '../hostile/guest/guest.js';
import type { GuestPlan, GuestReport, World } from '../hostile/guest/plan.js';
import { RaceWord, ThreadRace } from '../hostile/guest/race.js';
import type { RacerStart } from './hostile-racer.js';

/** The thread's workerData. */
export interface GuestStart {
  /** `data`: `share()` of the guest's provider, its data. */
  readonly guests: readonly { readonly plan: GuestPlan; readonly data: unknown }[];
  readonly races: boolean;
}

/** What a guest asks of its host, which answers when it is done. */
export interface GuestWish {
  readonly guest: number;
  readonly wish: keyof World;
}

export interface WishAnswer {
  readonly guest: number;
  readonly error: string | undefined;
}

export type GuestMessage =
  | GuestWish
  | { readonly answered: number }
  | { readonly failed: string }
  | { readonly reports: readonly GuestReport[] };

const PROGRESS_MS = 500;
const { guests: starts, races } = workerData as GuestStart;
const waiting: ((answer: WishAnswer) => void)[] = [];

function tell(message: GuestMessage): void {
  parentPort!.postMessage(message);
}

function worldOf(guest: number): World {
  const ask = (wish: keyof World) =>
    new Promise<void>((resolve, reject) => {
      waiting[guest] = ({ error }) => (error === undefined ? resolve() : reject(new Error(error)));
      tell({ guest, wish });
    });
  return { attach: () => ask('attach'), detach: () => ask('detach'), destroy: () => ask('destroy') };
}

/** A thread for each guest, and another one for each memory that the guest gets: its domain may be made anew. */
function racesOf() {
  let memory: ArrayBufferLike | undefined;
  let race: ThreadRace | undefined;
  let racer: Worker | undefined;
  return (now: ArrayBufferLike): ThreadRace => {
    if (race && memory === now) return race;
    void racer?.terminate();
    const control = new SharedArrayBuffer(RaceWord.count * 4);
    const workerData: RacerStart = { memory: now as SharedArrayBuffer, control };
    racer = new Worker(new URL('./hostile-racer.js', import.meta.url), { workerData });
    racer.unref();
    memory = now;
    race = new ThreadRace(new Int32Array(control));
    return race;
  };
}

async function main(): Promise<void> {
  const guests: Guest[] = [];
  for (const [i, { plan, data }] of starts.entries()) {
    const race = races && !plan.victim ? racesOf() : undefined;
    guests.push(new Guest(plan, await attachProvider(data), worldOf(i), race));
  }
  parentPort!.on('message', (message: WishAnswer | 'stop') => {
    if (message === 'stop') for (const guest of guests) guest.stop();
    else waiting[message.guest](message);
  });
  setInterval(() => tell({ answered: guests.reduce((sum, { answered }) => sum + answered, 0) }), PROGRESS_MS).unref();
  tell({ reports: await Promise.all(guests.map((guest) => guest.run())) });
}

main().catch((error) => tell({ failed: (error as Error).stack ?? String(error) }));
