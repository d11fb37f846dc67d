import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatRateLimits, parseRateLimits, type RateLimits } from './rate-limits.js';

describe('a text of limits', () => {
  it.each<[string, RateLimits]>([
    ['none', {}],
    [' none ', {}],
    ['iops=500', { iops: 500 }],
    ['bandwidth=20M', { bandwidth: 20 << 20 }],
    ['bandwidth=20m, iops = 1k', { bandwidth: 20 << 20, iops: 1024 }],
    ['iops=10,iops-burst=1', { iops: 10, iopsBurst: 1 }],
    ['bandwidth=1T,bandwidth-burst=4096', { bandwidth: 2 ** 40, bandwidthBurst: 4096 }],
  ])('%j is understood', (text, limits) => {
    expect(parseRateLimits(text)).toEqual(limits);
  });

  it.each([
    '',
    ',',
    'iops',
    'iops=',
    'iops=0',
    'iops=-1',
    'iops=1.5',
    'iops=1e3',
    'iops=0x10',
    'iops=1,iops=2',
    'iops=1,',
    'ios=1',
    'iops=1KK',
    'iops=1P',
    'iops-burst=5',
    'bandwidth=1,iops-burst=5',
    'bandwidth=1025T',
    'iops=99999999999999999999',
    'none,iops=1',
    'constructor=1',
    '__proto__=1',
    'iops=1\nbandwidth=1',
  ])('%j is refused', (text) => {
    expect(parseRateLimits(text)).toBeUndefined();
  });

  it('is what its limits are written as', () => {
    const value = fc.integer({ min: 1, max: 2 ** 50 });
    const limits = fc.record(
      { iops: value, bandwidth: value, iopsBurst: value, bandwidthBurst: value },
      { requiredKeys: ['iops', 'bandwidth'] },
    );
    fc.assert(
      fc.property(limits, (given) => {
        expect(parseRateLimits(formatRateLimits(given))).toEqual({ ...given });
      }),
    );
  });
});
