import { describe, expect, it } from 'vitest';
import { LATENCY_PHASES } from './layout.js';
import { RingCounters } from './ring-counters.js';
import { readStatistics } from './statistics.js';

const WRITE = 1;

describe('the times of a request', () => {
  it('are summed from end to end and at the storage, and counted in the bucket of each phase', () => {
    const counters = new RingCounters();
    // Milliseconds: 1 until it is queued, 3 at the storage, 2 until it is pushed.
    counters.latency(WRITE, 1, 10, 11, 14, 16);
    counters.latency(WRITE, 2, 20, 21, 24, 26);
    const { write, read } = readStatistics([counters.buffer]);
    expect(write).toMatchObject({ totalTimeNs: 18e6, storageTimeNs: 9e6 });
    expect(read).toMatchObject({ totalTimeNs: 0, storageTimeNs: 0 });
    // Bucket b is for less than 2^b microseconds.
    const bucketOf = { pulled_to_queued: 10, queued_to_completed: 12, completed_to_pushed: 11, total: 13 };
    for (const phase of LATENCY_PHASES) {
      expect(
        write.latency[phase].flatMap((count, b) => (count > 0 ? [b, count] : [])),
        phase,
      ).toEqual([bucketOf[phase], 3]);
    }
  });

  it('of several rings are added up', () => {
    const rings = [new RingCounters(), new RingCounters()];
    for (const ring of rings) ring.latency(WRITE, 1, 0, 1, 3, 4);
    const { write } = readStatistics(rings.map(({ buffer }) => buffer));
    expect(write).toMatchObject({ totalTimeNs: 8e6, storageTimeNs: 4e6 });
  });
});
