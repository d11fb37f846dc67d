import { getEventListeners } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { onAbort, unlessAborted, untilAborted } from './abort.js';

const never = () => new Promise<never>(() => {});
const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length;

describe('untilAborted', () => {
  it('settles as the work does, and then listens no more', async () => {
    const { signal } = new AbortController();
    expect(await untilAborted(Promise.resolve(7), signal)).toBe(7);
    await expect(untilAborted(Promise.reject(new Error('lost')), signal)).rejects.toThrow('lost');
    expect(await untilAborted(Promise.resolve(7), undefined)).toBe(7);
    expect(listeners(signal)).toBe(0);
  });

  it('rejects with the reason, and hears of no error of the work any more', async () => {
    const abort = new AbortController();
    let fail = (_error: Error) => {};
    const work = new Promise<void>((_, reject) => {
      fail = reject;
    });
    const waits = untilAborted(work, abort.signal);
    abort.abort(new Error('enough'));
    await expect(waits).rejects.toThrow('enough');
    await expect(untilAborted(Promise.reject(new Error('late too')), abort.signal)).rejects.toThrow('enough');
    // An error that nobody took would end this process.
    fail(new Error('late'));
    await new Promise((resolve) => setImmediate(resolve));
  });

  it('has one listener on a signal that many wait for', async () => {
    const abort = new AbortController();
    const all = Array.from({ length: 50 }, () => untilAborted(never(), abort.signal));
    expect(listeners(abort.signal)).toBe(1);
    abort.abort(new Error('enough'));
    for (const one of await Promise.allSettled(all)) expect(one.status).toBe('rejected');
    expect(listeners(abort.signal)).toBe(0);
  });
});

it('unlessAborted begins nothing with a signal that is aborted', async () => {
  const work = vi.fn(async () => 7);
  await expect(unlessAborted(AbortSignal.abort(new Error('enough')), work)).rejects.toThrow('enough');
  expect(work).not.toHaveBeenCalled();
  expect(await unlessAborted(new AbortController().signal, work)).toBe(7);
});

it('onAbort tells whoever has not left by then', () => {
  const abort = new AbortController();
  const told: string[] = [];
  const leave = onAbort(abort.signal, () => told.push('first'));
  onAbort(abort.signal, (reason) => told.push(`second: ${reason}`));
  leave();
  abort.abort('enough');
  expect(told).toEqual(['second: enough']);
});
