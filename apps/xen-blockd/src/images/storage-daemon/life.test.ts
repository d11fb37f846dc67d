import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BlockImage, type ImageDisk, nbdDiskOf } from '@xenpv/blockdev';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { HelperBench, processesWith } from '../../testing/storage-helpers.js';
import { openFormatImage } from './format-image.js';

const POLL = { interval: 2, timeout: 20_000 };
const BLOCK = new Uint8Array(4096).fill(7);

let bench: HelperBench;
let opened: (BlockImage | ImageDisk)[];

beforeEach(() => {
  bench = new HelperBench();
  opened = [];
});
vi.setConfig({ testTimeout: 30_000 });
afterEach(async () => {
  for (const each of opened.reverse()) await each[Symbol.asyncDispose]();
  bench.expectNothingLeft();
  await bench[Symbol.asyncDispose]();
});

async function open(path: string, times = {}) {
  const image = await openFormatImage(bench.options(path, { times }));
  const disk = nbdDiskOf(image);
  opened.push(image, disk);
  return { image, disk };
}

/** What builds its cage names the image too, and is soon gone. */
function isHelper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('qemu-storage-d');
  } catch {
    return false;
  }
}

/** The one helper that serves the image, as soon as there is one that is not `before`. */
async function helperOf(path: string, before?: number): Promise<number> {
  return vi.waitFor(() => {
    const found = processesWith(path).filter(isHelper);
    expect(found.length).toBeLessThanOrEqual(1);
    expect(found[0] ?? before).not.toBe(before);
    return found[0];
  }, POLL);
}

const kinds = () => bench.events.map(({ kind }) => kind);

needs('qemu-img', 'qemu-storage-daemon').describe('a storage helper', () => {
  it('killed at once after each start is started again, one at a time, and serves in the end', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path, { retryMs: 5, retryMostMs: 20 });
    await disk.write(0, BLOCK);
    await disk.flush!();
    let pid: number | undefined;
    for (let i = 0; i < 8; i++) {
      pid = await helperOf(path, pid);
      process.kill(pid, 'SIGKILL');
    }
    expect(await disk.read(0, BLOCK.length)).toEqual(BLOCK);
    expect(processesWith(path)).toHaveLength(1);
  });

  it('killed by others at its first starts, however often, is started again until it serves', async () => {
    const starts = bench.path('starts');
    bench.fake(`echo >> ${starts}; [ $(wc -l < ${starts}) -gt 6 ] || kill -KILL $$; exec "$REAL" "$@"`);
    const { disk } = await open(await bench.qcow2(), { retryMs: 1, retryMostMs: 5 });
    await disk.write(0, BLOCK);
    expect(readFileSync(starts, 'utf8')).toHaveLength(7);
  });

  it('killed while requests are in flight leaves none of them unanswered, and is told of with its signal', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path);
    const writes = Array.from({ length: 64 }, (_, i) => disk.write(i * BLOCK.length, BLOCK));
    process.kill(await helperOf(path), 'SIGKILL');
    await Promise.all(writes);
    expect(await disk.read(63 * BLOCK.length, BLOCK.length)).toEqual(BLOCK);
    await vi.waitFor(() => expect(kinds()).toEqual(['ended', 'running']), POLL);
    expect(bench.events[0]).toMatchObject({ reason: expect.stringMatching(/was killed by SIGKILL/), failures: 1 });
  });

  it('that ends by itself is told of with its exit code and the last that it said', async () => {
    const path = await bench.qcow2();
    const [burns, burnt] = [bench.path('burns'), bench.path('burnt')];
    bench.fake(`
      [ -e ${burnt} ] && exec "$REAL" "$@"
      "$REAL" "$@" &
      while [ ! -e ${burns} ]; do sleep 0.01; done
      echo 'qemu-storage-daemon: disk on fire' >&2
      kill -KILL $!; touch ${burnt}; exit 7`);
    const { disk } = await open(path);
    writeFileSync(burns, '');
    await vi.waitFor(() => expect(kinds()).toEqual(['ended', 'running']), POLL);
    expect(bench.events[0]).toMatchObject({ reason: 'disk on fire (qemu-storage-daemon ended with exit code 7)' });
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('goes on as soon as an image that was away is there again', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path);
    await disk.write(0, BLOCK);
    await disk.flush!();
    renameSync(path, `${path}.away`);
    process.kill(await helperOf(path), 'SIGKILL');
    const reading = disk.read(0, BLOCK.length);
    await vi.waitFor(() => expect(kinds()).toContain('refused'), POLL);
    expect(bench.events[1]).toMatchObject({ reason: `${path}: it does not exist` });
    renameSync(`${path}.away`, path);
    expect(await reading).toEqual(BLOCK);
    await vi.waitFor(() => expect(kinds()).toContain('running'), POLL);
  });

  it('is tried again ever more rarely while its image is refused, told of ever more rarely, and ends with it', async () => {
    const path = await bench.qcow2();
    const starts = bench.path('starts');
    bench.fake(`date +%s%N >> ${starts}; exec "$REAL" "$@"`);
    const { image } = await open(path, { retryMs: 20, retryMostMs: 160 });
    const [helper] = processesWith(path);
    writeFileSync(path, new Uint8Array(512));
    process.kill(helper, 'SIGKILL');
    await vi.waitFor(() => expect(bench.events.at(-1)).toMatchObject({ kind: 'refused', failures: 8 }), POLL);
    await image.close();
    const times = readFileSync(starts, 'utf8')
      .trim()
      .split('\n')
      .map((time) => Number(time) / 1e6);
    const gaps = times.slice(2).map((time, i) => time - times[i + 1]);
    // Three quarters of each wait are certain.
    for (const [i, wait] of [20, 40, 80, 160, 160].entries()) expect(gaps[i]).toBeGreaterThan(0.74 * wait);
    expect(bench.events.map((event) => 'failures' in event && event.failures)).toEqual([1, 2, 4, 8]);
    bench.expectNothingLeft();
  });

  it('that cannot be found when it is to be started again is looked for until it can', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path, { retryMs: 5, retryMostMs: 20 });
    bench.install('', 0o644);
    process.kill(await helperOf(path), 'SIGKILL');
    await vi.waitFor(() => expect(kinds()).toContain('refused'), POLL);
    expect(bench.events[1]).toMatchObject({ reason: expect.stringContaining('not there or not executable') });
    vi.unstubAllEnvs();
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('that does not get ready when it is started again is killed, and there is never a second one', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path, { startMs: 2000, retryMs: 5, retryMostMs: 20 });
    bench.fake('sleep 600');
    process.kill(await helperOf(path), 'SIGKILL');
    await vi.waitFor(() => {
      expect(processesWith(path).length).toBeLessThanOrEqual(1);
      expect(bench.events.at(-1)).toMatchObject({ failures: 2 });
    }, POLL);
    expect(bench.events.at(-1)).toMatchObject({ reason: expect.stringContaining('does not get ready within 2 ') });
    vi.unstubAllEnvs();
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('killed once while it opens the image is started again', async () => {
    const path = await bench.qcow2();
    const killed = bench.path('killed');
    bench.fake(`[ -e ${killed} ] || { touch ${killed}; kill -KILL $$; }; exec "$REAL" "$@"`);
    const { disk } = await open(path);
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
  });

  it('finds its folder made anew when somebody has removed it', async () => {
    const path = await bench.qcow2();
    const { disk } = await open(path);
    const [name] = readdirSync(bench.helpers);
    rmSync(bench.helpers, { recursive: true });
    process.kill(await helperOf(path), 'SIGKILL');
    expect(await disk.read(0, 512)).toEqual(new Uint8Array(512));
    expect(statSync(join(bench.helpers, name)).mode & 0o777).toBe(0o700);
  });

  it('that ignores the signal to end is killed', async () => {
    const path = await bench.qcow2();
    bench.fake(`trap '' TERM; "$REAL" "$@" & while :; do wait; done`);
    const { image } = await open(path, { stopMs: 100 });
    expect(processesWith(path).length).toBeGreaterThan(1);
    await image.close();
    bench.expectNothingLeft();
  });

  it('is gone after a close at any instant of its life', async () => {
    const path = await bench.qcow2();
    for (let ms = 0; ms < 60; ms += 3) {
      const { image } = await open(path, { retryMs: 5 });
      process.kill(await helperOf(path), 'SIGKILL');
      const timer = new Promise((resolve) => setTimeout(resolve, ms));
      await timer;
      await Promise.all([image.close(), image.close()]);
      expect(processesWith(path)).toEqual([]);
    }
    bench.expectNothingLeft();
  });

  it('is gone after an opening that is ended at any instant', async () => {
    const path = await bench.qcow2();
    const outcomes = new Set<string>();
    for (let ms = 0; ms < 100; ms += 4) {
      const ended = new AbortController();
      const opening = openFormatImage(bench.options(path, { signal: ended.signal }));
      setTimeout(() => ended.abort(), ms);
      const outcome = await opening.catch((error: Error) => error);
      if (outcome instanceof Error) expect(outcome).toBe(ended.signal.reason);
      else await outcome.close();
      outcomes.add(outcome instanceof Error ? 'ended' : 'opened');
      bench.expectNothingLeft();
    }
    expect(outcomes).toContain('ended');
  });

  it('ended by an opening that was ended before it began is never started', async () => {
    const started = bench.path('started');
    bench.fake(`touch ${started}`);
    const options = bench.options('/x', { signal: AbortSignal.abort() });
    await expect(openFormatImage(options)).rejects.toThrow('aborted');
    expect(existsSync(started)).toBe(false);
  });
});
