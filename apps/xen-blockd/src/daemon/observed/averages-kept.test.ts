import type { ACCOUNTING_CLASSES, DiskStatistics } from '@xenpv/xen-block';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { averageText } from '../../status/disks/averages.js';
import type { SampledDisk } from '../../status/page/history.js';
import { AveragesKept } from './averages-kept.js';

const STEP_MS = 5000;

/** Only what is read of a disk's counters. */
class Disk implements SampledDisk {
  readonly identity: object = {};
  reads = 0;
  writes = 0;
  flushes = 0;
  constructor(readonly name = 'qdisk-1-51712') {}
  statistics = (): DiskStatistics => {
    const counted = {
      read: { operations: this.reads, bytes: 4096 * this.reads },
      write: { operations: this.writes, bytes: 1000 * this.writes },
      flush: { operations: this.flushes, bytes: 0 },
      discard: { operations: 0, bytes: 0 },
    } satisfies Record<(typeof ACCOUNTING_CLASSES)[number], object>;
    return counted as unknown as DiskStatistics;
  };
}

let averages: AveragesKept;
let now: number;
let disk: Disk;

beforeEach(() => {
  averages = new AveragesKept();
  now = 100_000;
  disk = new Disk();
});
afterEach(() => averages[Symbol.dispose]());

const look = (...disks: SampledDisk[]) =>
  averages.sample(
    disks,
    () => now,
    async () => {},
  );
const of = (which = disk) => averages.of(which.name, which.identity);

/** So many looks, each after five seconds in which the disk has read so often. */
async function run(looks: number, reads: number): Promise<void> {
  for (let i = 0; i < looks; i++) {
    now += STEP_MS;
    disk.reads += reads;
    await look(disk);
  }
}

describe('the averages of a disk', () => {
  it('are of the last minute, and of the last five', async () => {
    await look(disk);
    await run(60, 500);
    await run(6, 1000);
    expect(of().minute).toEqual({
      seconds: 60,
      iops: 150,
      readIops: 150,
      writeIops: 0,
      readBandwidth: 614_400,
      writeBandwidth: 0,
    });
    expect(of().fiveMinutes).toMatchObject({ seconds: 300, iops: 110 });
    expect(averageText(of(), 'minute')).toBe('150 IOPS (read 150, write 0), read 0.6 MB/s, write 0.0 MB/s');
  });

  it('count all classes in IOPS, and bytes of reads and writes', async () => {
    await look(disk);
    now += STEP_MS;
    Object.assign(disk, { reads: 5, writes: 10, flushes: 20 });
    await look(disk);
    const rates = { iops: 7, readIops: 1, writeIops: 2, readBandwidth: 4096, writeBandwidth: 2000 };
    expect(of().minute).toEqual({ seconds: 5, ...rates });
  });

  it('of a young disk are of its age, and say so', async () => {
    expect(of()).toEqual({});
    await look(disk);
    expect(of().minute).toBeUndefined();
    expect(averageText(of(), 'minute')).toBe('not known yet');
    await run(4, 100);
    expect(of().minute).toMatchObject({ seconds: 20, readIops: 20 });
    expect(of().fiveMinutes).toMatchObject({ seconds: 20, readIops: 20 });
    expect(averageText(of(), 'minute')).toMatch(/; of 20 s$/);
    await run(8, 100);
    expect(averageText(of(), 'minute')).not.toContain('; of');
    expect(averageText(of(), 'fiveMinutes')).toMatch(/; of 60 s$/);
  });

  it('are right though looks are late, or left out, and say how long they are of', async () => {
    await look(disk);
    for (const late of [1, 700, 3, 2000, 5, 0, 1, 2, 900, 4, 1, 0]) {
      now += late;
      disk.reads += late / 10;
      await run(1, 500);
    }
    expect(of().minute?.readIops).toBe(100);
    expect(of().minute?.seconds).toBeGreaterThan(57);
    now += 120_000;
    disk.reads += 12_000;
    await look(disk);
    expect(of().minute).toMatchObject({ seconds: 120, readIops: 100 });
    // Nothing of the last five minutes is known after a longer gap.
    now += 3_600_000;
    await look(disk);
    expect(of()).toEqual({ minute: undefined, fiveMinutes: undefined });
  });

  it('begin anew with its counters', async () => {
    await look(disk);
    await run(3, 100);
    disk.reads = 0;
    await run(1, 50);
    expect(of().minute).toBeUndefined();
    await run(1, 50);
    expect(of().minute).toMatchObject({ seconds: 5, readIops: 10 });
  });

  it('are not those of another disk of its name', async () => {
    await look(disk);
    await run(3, 100);
    const other = new Disk();
    other.reads = 10_000;
    expect(of(other)).toEqual({});
    now += STEP_MS;
    await look(other);
    expect(of(other).minute).toBeUndefined();
    expect(of()).toEqual({});
  });

  it('are forgotten with it', async () => {
    const other = new Disk('qdisk-2-51712');
    await look(disk, other);
    now += STEP_MS;
    await look(other);
    expect(of()).toEqual({});
    expect(of(other).minute).toMatchObject({ seconds: 5, iops: 0 });
  });
});

it('disks are looked at every five seconds until the end, whatever one of them throws', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const looks = vi.fn((): SampledDisk[] => [disk]);
    averages.start(looks);
    for (let i = 1; i <= 3; i++) {
      await vi.advanceTimersByTimeAsync(STEP_MS);
      await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1));
      expect(looks).toHaveBeenCalledTimes(i);
      if (i === 2) looks.mockImplementationOnce(() => [{ ...disk, statistics: () => expect.fail('broken') }]);
    }
    averages[Symbol.dispose]();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
