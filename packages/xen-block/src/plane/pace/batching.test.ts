import { expect, it } from 'vitest';
import { Batching } from './batching.js';

/** Sleeps of a ring whose frontend sends `depth` requests without an answer, `inTime` of them in the time of a sleep. */
function sleeps(batching: Batching, count: number, depth: number, inTime = depth): number[] {
  return Array.from({ length: count }, () => {
    const wanted = batching.next();
    const arrived = Math.min(depth, inTime, wanted);
    if (arrived < wanted) batching.timedOut(arrived);
    else batching.woken(arrived);
    return wanted;
  });
}

it.each([
  ['one request at a time is never waited for', 1, 1, 1],
  ['nor are two, which would stand still', 2, 2, 1],
  ['half of what a frontend has in flight', 8, 8, 4],
  ['half of what comes in time', 32, 12, 6],
  ['sixteen at most', 256, 256, 16],
])('%s', (_name, depth, inTime, limit) => {
  const batching = new Batching(512);
  sleeps(batching, 200, depth, inTime);
  const later = sleeps(batching, 9, depth, inTime);
  expect(later.filter((wanted) => wanted === limit).length).toBeGreaterThanOrEqual(8);
});

it('waits in vain ever less often', () => {
  const batching = new Batching(32);
  const vain = sleeps(batching, 10_000, 1).filter((wanted) => wanted > 1).length;
  expect(vain).toBeLessThan(25);
});

it('falls when a frontend does less, and rises again', () => {
  const batching = new Batching(32);
  sleeps(batching, 100, 32);
  expect(batching.next()).toBe(16);
  batching.timedOut(1);
  expect(batching.next()).toBe(1);
  batching.woken(1);
  sleeps(batching, 100, 32);
  expect(batching.next()).toBe(16);
});

it('learns nothing from a sleep that ended early for another reason', () => {
  const batching = new Batching(32);
  sleeps(batching, 100, 32);
  expect(batching.next()).toBe(16);
  batching.woken(3);
  expect(batching.next()).toBe(16);
});

it('never waits for more than a ring has slots', () => {
  const batching = new Batching(4);
  expect(Math.max(...sleeps(batching, 1000, 4))).toBeLessThanOrEqual(4);
});
