import { expect, it } from 'vitest';
import { Clock } from './clock.js';

it('times every wake-up where reading the clock is cheap', () => {
  const clock = new Clock(1);
  const timed = Array.from({ length: 4 }, () => {
    clock.begin();
    return clock.timing;
  });
  expect(timed).toEqual([true, true, true, true]);
});

it('times one in so many where it is dear', () => {
  const clock = new Clock(4);
  const timed = Array.from({ length: 8 }, () => {
    clock.begin();
    return clock.timing;
  });
  expect(timed).toEqual([false, false, false, true, false, false, false, true]);
});

it('is read only for the sake of timed requests', () => {
  const clock = new Clock(1000);
  const { now } = clock;
  clock.begin();
  clock.tick();
  expect(clock.now).toBe(now);
  clock.timed++;
  clock.tick();
  expect(clock.now).toBeGreaterThan(now);
});
