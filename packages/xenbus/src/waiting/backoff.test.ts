import { describe, expect, it } from 'vitest';
import { Backoff } from './backoff.js';

describe('a backoff', () => {
  it('is twice as long after each failure, up to its limit', () => {
    const backoff = new Backoff({ firstMs: 50, lastMs: 1000, random: () => 0 });
    expect(Array.from({ length: 7 }, () => backoff.failed())).toEqual([50, 100, 200, 400, 800, 1000, 1000]);
  });

  it('stays at its limit after any number of failures', () => {
    const backoff = new Backoff({ random: () => 0 });
    for (let i = 0; i < 2000; i++) backoff.failed();
    expect(backoff.failed()).toBe(5000);
  });

  it('begins anew after a success', () => {
    const backoff = new Backoff({ random: () => 0 });
    for (let i = 0; i < 5; i++) backoff.failed();
    backoff.worked();
    expect(backoff.failed()).toBe(50);
  });

  it('is shorter by a random part of up to a half', () => {
    const pause = (random: number) => new Backoff({ firstMs: 100, random: () => random }).failed();
    expect([pause(0), pause(0.5), pause(1)]).toEqual([100, 75, 50]);
  });
});
