import { describe, expect, it } from 'vitest';
import { Random } from '../program/random.js';
import { FEWEST_PAIRS, pairedRatio, verdict } from './paired.js';

describe('pairs of runs of two revisions', () => {
  it('are too few below six, whose extremes are the interval', () => {
    expect(() => pairedRatio([1, 1, 1, 1, 1])).toThrow('5 pairs; at least 6 are needed');
    expect(pairedRatio([6, 1, 4, 2, 5, 3])).toEqual({ median: 3.5, low: 1, high: 6 });
  });

  it.each([
    [6, 0],
    [8, 0],
    [9, 1],
    [12, 2],
    [15, 3],
    [20, 5],
    [100, 39],
  ])('of which there are %i lose %i at each end, as tables of the sign test say', (count, drop) => {
    const ratios = Array.from({ length: count }, (_, i) => i);
    expect(pairedRatio(ratios)).toMatchObject({ low: drop, high: count - 1 - drop });
  });

  it('have the true ratio in the interval at least 95 times of 100, with outliers and all', () => {
    const random = new Random(7);
    const draws = 4000;
    for (const count of [FEWEST_PAIRS, 9, 14]) {
      let inside = 0;
      for (let i = 0; i < draws; i++) {
        // Half are above 1.1 and half below; some by a lot, to one side only.
        const ratios = Array.from({ length: count }, () =>
          random.oneIn(2) ? 1.1 - random.below(100) / 1000 : 1.1 + random.below(random.oneIn(5) ? 9000 : 50) / 1000,
        );
        const { low, high } = pairedRatio(ratios);
        if (low <= 1.1 && high >= 1.1) inside++;
      }
      expect(inside / draws).toBeGreaterThan(0.94);
    }
  });

  it('are worse or better by what the figure is, and neither within the tolerance or while the interval has 1 in it', () => {
    const less = { median: 0.9, low: 0.85, high: 0.95 };
    const more = { median: 1.1, low: 1.05, high: 1.2 };
    expect(verdict('ring_requests_per_s', less, 0.02)).toBe('worse');
    expect(verdict('ring_requests_per_s', more, 0.02)).toBe('better');
    expect(verdict('idle_disk_bytes', less, 0.02)).toBe('better');
    expect(verdict('idle_disk_bytes', more, 0.02)).toBe('worse');
    expect(verdict('ring_requests_per_s', { median: 0.9, low: 0.8, high: 1.01 }, 0.02)).toBe('no difference');
    expect(verdict('ring_requests_per_s', { median: 0.97, low: 0.96, high: 0.99 }, 0.05)).toBe('no difference');
  });
});
