import { expect, it } from 'vitest';
import { AdaptivePoll } from './adaptive-poll.js';

/** Sleeps of these lengths, in milliseconds, one after the other; the window after them. */
function windowAfter(max: number, sleeps: number[]): number {
  const poll = new AdaptivePoll(max);
  let now = 1;
  for (const sleep of sleeps) {
    poll.sleeping(now);
    now += sleep;
    poll.woken(now);
  }
  return poll.window;
}

it.each<[string, number, number[], number]>([
  ['nothing yet', 0.1, [], 0],
  ['a short sleep', 0.1, [0.05], 0.004],
  ['short sleeps make it grow', 0.1, [0.05, 0.05, 0.05], 0.016],
  ['up to the limit', 0.1, Array(20).fill(0.05), 0.1],
  ['a long sleep halves it', 0.1, [...Array(20).fill(0.05), 10], 0.05],
  ['long sleeps end it', 0.1, [...Array(20).fill(0.05), ...Array(20).fill(10)], 0],
  ['turned off', 0, [0.001, 0.001], 0],
])('%s', (_name, max, sleeps, window) => {
  expect(windowAfter(max, sleeps)).toBeCloseTo(window, 6);
});

it('looks until something is found', () => {
  const poll = new AdaptivePoll(1000);
  for (let i = 0; i < 20; i++) {
    poll.sleeping(1);
    poll.woken(2);
  }
  let looks = 0;
  expect(poll.run(() => ++looks === 5)).toBe(true);
  expect(looks).toBe(5);
});

it('gives up when the window is over', () => {
  const poll = new AdaptivePoll(0.01);
  poll.sleeping(1);
  poll.woken(1.001);
  expect(poll.run(() => false)).toBe(false);
});
