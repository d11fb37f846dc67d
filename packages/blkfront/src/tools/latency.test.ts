import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LatencyHistogram } from './latency.js';

it('gives percentiles within a tenth', () => {
  const durations = fc.array(fc.double({ min: 0.1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 500 });
  fc.assert(
    fc.property(durations, (values) => {
      const histogram = new LatencyHistogram();
      for (const value of values) histogram.add(value);
      const sorted = [...values].sort((a, b) => a - b);
      const { p50, p99, max } = histogram.read();
      for (const [quantile, found] of [
        [0.5, p50],
        [0.99, p99],
      ]) {
        const exact = sorted[Math.max(0, Math.ceil(sorted.length * quantile) - 1)];
        expect(found).toBeGreaterThanOrEqual(exact * 0.999);
        expect(found).toBeLessThanOrEqual(exact * 1.1);
      }
      expect(max).toBe(sorted[sorted.length - 1]);
    }),
  );
});

it('counts nothing as nothing, and what is out of bounds at its ends', () => {
  const histogram = new LatencyHistogram();
  expect(histogram.read()).toEqual({ p50: 0, p99: 0, p999: 0, max: 0 });
  histogram.add(0);
  histogram.add(1e15);
  expect(histogram.read().max).toBe(1e15);
});
