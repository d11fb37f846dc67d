import { expect, it } from 'vitest';
import { Backoff } from './backoff.js';

const TIMES = { firstMs: 100, mostMs: 2000 };

it('waits longer after each failure in a row, up to a limit, and not before the first', () => {
  const backoff = new Backoff(TIMES, () => 0);
  const waits = Array.from({ length: 9 }, () => backoff.fail());
  expect(waits).toEqual([0, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
  expect(backoff.failures).toBe(9);
  backoff.reset();
  expect([backoff.failures, backoff.fail(), backoff.fail()]).toEqual([0, 0, 100]);
});

it('stays at its limit however long the row is', () => {
  const backoff = new Backoff(TIMES, () => 0);
  for (let i = 0; i < 5000; i++) backoff.fail();
  expect(backoff.fail()).toBe(2000);
});

it('leaves a part of each wait to chance, and never waits longer than the limit', () => {
  const least = new Backoff(TIMES, () => 1);
  for (let i = 0; i < 20; i++) least.fail();
  expect(least.fail()).toBe(1500);
});
