/** A thread that exchanges words of a guest's memory as fast as it can: see hostile/guest/race.ts. */
import { workerData } from 'node:worker_threads';
import { exchangeIn, RaceState, RaceWord } from '../hostile/guest/race.js';

/** The thread's workerData. */
export interface RacerStart {
  readonly memory: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
}

const start = workerData as RacerStart;
const memory = new Int32Array(start.memory);
const control = new Int32Array(start.control);

for (;;) {
  const state = Atomics.load(control, RaceWord.state);
  if (state === RaceState.rests) {
    Atomics.wait(control, RaceWord.state, RaceState.rests);
  } else if (state === RaceState.runs) {
    exchangeIn(memory, control);
  } else {
    Atomics.store(control, RaceWord.state, RaceState.rests);
    Atomics.notify(control, RaceWord.state);
  }
}
