import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Deadline } from './deadline.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it.each([1000, 2 ** 31, 2 ** 40])('a deadline of %s ms is not over before', async (milliseconds) => {
  using deadline = new Deadline(new AbortController().signal, milliseconds);
  await vi.advanceTimersByTimeAsync(Math.min(milliseconds, 2 ** 31 - 1) - 1);
  expect(deadline.signal.aborted).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(deadline.signal.aborted).toBe(true);
});
