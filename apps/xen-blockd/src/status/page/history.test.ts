import { ACCOUNTING_CLASSES, type DiskStatistics } from '@xenpv/xen-block';
import { beforeEach, describe, expect, it } from 'vitest';
import { DiskHistory, type SampledDisk } from './history.js';

const STEP = 5000;

/** Only what is read of a disk's counters. */
class Disk implements SampledDisk {
  readonly identity = {};
  operations = 0;
  constructor(readonly name = 'qdisk-1-51712') {}
  statistics = (): DiskStatistics => {
    const counted = {
      operations: this.operations,
      bytes: this.operations * 4096,
      totalTimeNs: this.operations * 80_000,
    };
    const none = { operations: 0, bytes: 0, totalTimeNs: 0 };
    const all = ACCOUNTING_CLASSES.map((name) => [name, name === 'read' ? counted : none]);
    return Object.fromEntries(all) as unknown as DiskStatistics;
  };
}

describe("the disks' last hour", () => {
  let history: DiskHistory;
  let now: number;
  const turn = async () => {};
  const sample = (...disks: SampledDisk[]) => history.sample(disks, () => now, turn);
  /** Samples at whole steps, of a disk that has done so many requests in each. */
  const run = async (disk: Disk, requests: readonly number[]) => {
    for (const count of requests) {
      now += STEP;
      disk.operations += count;
      await sample(disk);
    }
  };

  beforeEach(() => {
    history = new DiskHistory();
    now = 100_000;
  });

  it('has rates and the mean time, and null for a time in which nothing was answered', async () => {
    const disk = new Disk();
    await sample(disk);
    await run(disk, [500, 0, 50]);
    expect(history.whole(disk.name)).toEqual({
      stepSeconds: 5,
      iops: [100, 0, 10],
      bandwidth: [410_000, 0, 41_000],
      latency: [80, null, 80],
    });
    expect(history.latest(disk.name)).toEqual({ iops: 10, bandwidth: 41_000, latency: 80 });
  });

  it('has gaps where no samples were taken, and rates over the time that has passed', async () => {
    const disk = new Disk();
    await sample(disk);
    await run(disk, [500]);
    now += 4 * STEP;
    disk.operations += 2000;
    await sample(disk);
    expect(history.whole(disk.name)?.iops).toEqual([100, null, null, null, 100]);
    now += 10 * 3_600_000;
    await sample(disk);
    expect(history.whole(disk.name)?.iops.filter((rate) => rate !== null)).toEqual([0]);
  });

  it('does not mind a sample that comes twice in a step, or a clock that stands still', async () => {
    const disk = new Disk();
    await sample(disk);
    await sample(disk);
    await run(disk, [500]);
    now += 1;
    await sample(disk);
    expect(history.whole(disk.name)?.iops).toHaveLength(1);
  });

  it('of a disk that comes again under its name begins anew, and one that is gone is forgotten', async () => {
    const [first, second] = [new Disk(), new Disk()];
    await sample(first);
    await run(first, [500]);
    second.operations = 1_000_000;
    await run(second, [5]);
    expect(history.whole(first.name)?.iops).toEqual([null, null]);
    await run(second, [5]);
    expect(history.latest(first.name)?.iops).toBe(1);
    now += STEP;
    await sample();
    expect(history.whole(first.name)).toBeUndefined();
    expect(history.latest(first.name)).toBeUndefined();
  });

  it('has a gap where counters begin anew', async () => {
    const disk = new Disk();
    await sample(disk);
    await run(disk, [500, -400, 50]);
    expect(history.whole(disk.name)?.iops).toEqual([100, null, 10]);
  });

  it('ends an hour ago; its short form has sixty points of five seconds, fifteen, or a minute', async () => {
    const disk = new Disk();
    await sample(disk);
    await run(disk, Array(60).fill(5));
    expect(history.short(disk.name)).toMatchObject({ stepSeconds: 5, iops: Array(60).fill(1) });
    await run(disk, Array(60).fill(10));
    expect(history.short(disk.name)).toMatchObject({ stepSeconds: 15 });
    expect(history.short(disk.name)?.iops).toHaveLength(40);
    await run(disk, Array(700).fill(15));
    expect(history.short(disk.name)?.iops).toHaveLength(60);
    expect(history.short(disk.name)).toMatchObject({ stepSeconds: 60, iops: expect.arrayContaining([3]) });
    expect(history.whole(disk.name)?.iops).toEqual([...Array(20).fill(2), ...Array(700).fill(3)]);
  });

  it('is kept of 2048 disks, and of another one when there is room', async () => {
    const disks = Array.from({ length: 2049 }, (_, i) => new Disk(`qdisk-${i}-51712`));
    await sample(...disks);
    now += STEP;
    await sample(...disks);
    expect(history.latest('qdisk-2047-51712')).toBeDefined();
    expect(history.latest('qdisk-2048-51712')).toBeUndefined();
    await sample(...disks.slice(1));
    await sample(...disks.slice(1));
    expect(history.latest('qdisk-2048-51712')).toBeDefined();
  });
});
