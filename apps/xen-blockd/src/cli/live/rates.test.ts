import type { DiskStatistics } from '@xenpv/xen-block';
import { describe, expect, it } from 'vitest';
import type { DiskReport } from '../../status/disks/device-status.js';
import { formatBandwidth, formatRate } from '../../status/format.js';
import { RateMeter } from './rates.js';

/** As much of a disk as rates are made of. */
function disk(device: string, [reads, writes]: [number, number]): DiskReport {
  const counted = (operations: number) => ({ operations, bytes: 4096 * operations, totalTimeNs: 50_000 * operations });
  const none = counted(0);
  const statistics = { read: counted(reads), write: counted(writes), flush: none, discard: none };
  return { device, statistics: statistics as DiskStatistics } as DiskReport;
}

describe('rates', () => {
  it('are those since the look before', () => {
    const meter = new RateMeter();
    expect(meter.measure([disk('a', [100, 0])], 1000)).toMatchObject([{ rates: undefined }]);
    const [{ rates }] = meter.measure([disk('a', [300, 100])], 3000);
    expect(rates).toEqual({
      iops: 150,
      readIops: 100,
      writeIops: 50,
      readBandwidth: 409_600,
      writeBandwidth: 204_800,
      latency: 50,
    });
    expect(meter.measure([disk('a', [300, 100])], 4000)).toMatchObject([{ rates: { iops: 0, latency: undefined } }]);
  });

  it('are not there for a disk that has come, or whose counters have begun anew', () => {
    const meter = new RateMeter();
    meter.measure([disk('a', [100, 100])], 1000);
    const measured = meter.measure([disk('a', [200, 50]), disk('b', [9, 9])], 2000);
    expect(measured.map(({ rates }) => rates)).toEqual([undefined, undefined]);
    expect(meter.measure([disk('b', [10, 9])], 3000)).toMatchObject([{ rates: { iops: 1 } }]);
    expect(meter.measure([disk('a', [500, 500])], 4000)).toMatchObject([{ rates: undefined }]);
  });

  it('are not there for two looks at once', () => {
    const meter = new RateMeter();
    meter.measure([disk('a', [100, 100])], 1000);
    expect(meter.measure([disk('a', [200, 100])], 1000)).toMatchObject([{ rates: undefined }]);
  });
});

it.each([
  [undefined, '-'],
  [0, '0'],
  [0.51, '0.5'],
  [12_345.6, '12346'],
])('%s a second are %s', (rate, text) => {
  expect(formatRate(rate)).toBe(text);
});

it('bandwidth is in millions of bytes', () => {
  expect([formatBandwidth(1_500_000), formatBandwidth(0), formatBandwidth(undefined)]).toEqual(['1.5', '0.0', '-']);
});
