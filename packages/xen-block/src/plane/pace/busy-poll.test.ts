import { expect, it } from 'vitest';
import { BusyPoll } from './busy-poll.js';

const found = () => true;
const nothing = () => false;

/** How many of `runs` looked at all. */
function looks(poll: BusyPoll, runs: number, result: () => boolean): number {
  let count = 0;
  for (let i = 0; i < runs; i++) {
    let looked = false;
    poll.run(() => {
      looked = true;
      return result();
    });
    if (looked) count++;
  }
  return count;
}

it('looks until something is found', () => {
  const poll = new BusyPoll(1000);
  looks(poll, 10, found);
  let count = 0;
  expect(poll.run(() => ++count === 50)).toBe(true);
  expect(count).toBe(50);
});

it('goes on as long as something is found', () => {
  const poll = new BusyPoll(1000);
  expect(looks(poll, 10, found)).toBe(7);
  expect(looks(poll, 100, found)).toBe(100);
});

it('gives up when the window is over', () => {
  const poll = new BusyPoll(0.01);
  looks(poll, 10, found);
  expect(poll.run(nothing)).toBe(false);
});

it('stops when it is in vain, and tries ever less often', () => {
  const poll = new BusyPoll(0.0001);
  looks(poll, 10, found);
  expect(looks(poll, 10_000, nothing)).toBeLessThan(25);
});

it('is off with a window of nothing', () => {
  expect(looks(new BusyPoll(0), 100, found)).toBe(0);
});

it('rests when the processor was taken away', () => {
  const poll = new BusyPoll(5);
  looks(poll, 10, found);
  const busy = () => {
    for (const end = performance.now() + 2; performance.now() < end; );
    return false;
  };
  expect(looks(poll, 1, busy)).toBe(1);
  expect(looks(poll, 20, found)).toBe(0);
});
