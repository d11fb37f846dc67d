import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Patience } from './patience.js';

it('a process that stood still has its turn before its patience ends', async () => {
  const came: string[] = [];
  // Timers are next, from here on.
  await nextTurn();
  const patience = new Patience(40);
  const ended = patience.ended.then(() => came.push('the end'));
  // What has come to sockets is read after the timers, and before this.
  setImmediate(() => came.push('a turn'));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  await ended;
  expect(came).toEqual(['a turn', 'the end']);
});
