import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { WatchedAnswer } from './watched.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

it('the first answer is a new one; then they are at hand, and at most two seconds old', async () => {
  let asked = 0;
  using answer = new WatchedAnswer(async () => ++asked);
  expect(await answer.get()).toBe(1);
  expect(await answer.get()).toBe(1);
  await vi.advanceTimersByTimeAsync(1500);
  expect(await answer.get()).toBe(2);
});

it('a look is answered at once while a new answer is late, and waits when the last one is too old', async () => {
  let asked = 0;
  using answer = new WatchedAnswer(() => {
    asked += 1;
    if (asked === 1) return Promise.resolve('in time');
    return new Promise<string>((resolve) => setTimeout(() => resolve('late'), 5000));
  });
  await answer.get();
  await vi.advanceTimersByTimeAsync(1900);
  expect(await answer.get()).toBe('in time');
  await vi.advanceTimersByTimeAsync(200);
  const waiting = answer.get();
  await vi.advanceTimersByTimeAsync(5000);
  expect(await waiting).toBe('late');
});

it('nobody is asked any more when nobody has looked for a while', async () => {
  let asked = 0;
  using answer = new WatchedAnswer(async () => ++asked);
  await answer.get();
  await vi.advanceTimersByTimeAsync(60_000);
  const once = asked;
  expect(once).toBeLessThanOrEqual(31);
  await vi.advanceTimersByTimeAsync(600_000);
  expect(asked).toBe(once);
  expect(vi.getTimerCount()).toBe(0);
  expect(await answer.get()).toBe(once + 1);
});

it('nothing is left when it ends, also with a question under way', async () => {
  let resolve = (_: string) => {};
  const answer = new WatchedAnswer(() => new Promise<string>((answered) => (resolve = answered)));
  const waiting = answer.get();
  answer[Symbol.dispose]();
  resolve('late');
  expect(await waiting).toBe('late');
  expect(vi.getTimerCount()).toBe(0);
});
