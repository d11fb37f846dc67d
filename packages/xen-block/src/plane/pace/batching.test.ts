import { expect, it } from 'vitest';
import { HoldOff } from './batching.js';

/** Sleeps of a ring whose frontend sends `depth` requests without an answer, `inTime` of them in the time of a sleep. */
function sleeps(holdOff: HoldOff, count: number, depth: number, inTime = depth): number[] {
  return Array.from({ length: count }, () => {
    const wanted = holdOff.next();
    const arrived = Math.min(depth, inTime, wanted);
    holdOff.woken(arrived, arrived < wanted);
    return wanted;
  });
}

it.each([
  ['one request at a time is never waited for', 1, 1, 1],
  ['nor are two, which would stand still', 2, 2, 1],
  ['half of what a frontend has under way', 8, 8, 4],
  ['half of what comes in time', 32, 12, 6],
  ['sixteen at most', 256, 256, 16],
])('%s', (_name, depth, inTime, limit) => {
  const holdOff = new HoldOff(512);
  sleeps(holdOff, 200, depth, inTime);
  const later = sleeps(holdOff, 9, depth, inTime);
  expect(later.filter((wanted) => wanted === limit).length).toBeGreaterThanOrEqual(8);
});

it('waits in vain ever less often', () => {
  const holdOff = new HoldOff(32);
  const vain = sleeps(holdOff, 10_000, 1).filter((wanted) => wanted > 1).length;
  expect(vain).toBeLessThan(25);
});

it('falls when a frontend does less, and rises again', () => {
  const holdOff = new HoldOff(32);
  sleeps(holdOff, 100, 32);
  expect(holdOff.next()).toBe(16);
  holdOff.woken(1, true);
  expect(holdOff.next()).toBe(1);
  holdOff.woken(1, false);
  sleeps(holdOff, 100, 32);
  expect(holdOff.next()).toBe(16);
});

it('learns nothing from a sleep that ended early for another reason', () => {
  const holdOff = new HoldOff(32);
  sleeps(holdOff, 100, 32);
  expect(holdOff.next()).toBe(16);
  holdOff.woken(3, false);
  expect(holdOff.next()).toBe(16);
});

it('never waits for more than a ring has slots', () => {
  const holdOff = new HoldOff(4);
  expect(Math.max(...sleeps(holdOff, 1000, 4))).toBeLessThanOrEqual(4);
});
