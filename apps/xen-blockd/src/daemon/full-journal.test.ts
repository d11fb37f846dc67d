import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Blkfront } from '@xenpv/blkfront';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import { mounting, mountTmpfs } from '../testing/tmpfs.js';

vi.setConfig({ testTimeout: 90_000 });

const SOON = { timeout: 30_000 };
const NOT_NOTED = 'its requests in flight are not noted: ';
const AGAIN = 'its requests in flight are noted again';

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

interface Disk {
  readonly name: string;
  readonly guest: Blkfront;
}

async function attach(count: number): Promise<Disk[]> {
  const disks: Disk[] = [];
  for (let i = 0; i < count; i++) {
    const { domid } = await daemon.attach(`image-${i}`);
    disks.push({ name: `qdisk-${domid}-51712`, guest: await daemon.host.connectGuest(domid, { ringPageOrder: 0 }) });
  }
  return disks;
}

async function isServed({ guest }: Disk): Promise<void> {
  const data = randomBytes(4096);
  await guest.write(8192, data);
  expect(Buffer.from(await guest.read(8192, 4096))).toEqual(data);
}

/** What is told of a disk, with this text. */
const told = (disk: Disk, text: string) =>
  daemon.lines.filter(({ device, msg }) => device === disk.name && String(msg).startsWith(text));
const journalOf = (directory: string, { name }: Disk) => join(directory, `${name}-0`);

/** The file is the journal of the ring that is served now: what is done shows there. */
async function isNoted(directory: string, disk: Disk): Promise<void> {
  const before = readFileSync(journalOf(directory, disk));
  await isServed(disk);
  expect(readFileSync(journalOf(directory, disk)).equals(before)).toBe(false);
}

async function stops(ended: Promise<number>, disks: readonly Disk[]): Promise<void> {
  for (const { guest } of disks) await guest.close();
  daemon.stop();
  expect(await ended).toBe(0);
}

needs(...mounting).describe('a journal folder', () => {
  it.each([0, 1])(
    'that is full: disks are served and told of, and have journals when there is room (%i threads)',
    async (threads) => {
      const { path, resize } = mountTmpfs(64 * 1024);
      const ended = daemon.start({ threads, 'journal-directory': path });
      await daemon.says('ready');
      const disks = await attach(10);
      for (const disk of disks) await isServed(disk);
      const without = disks.filter((disk) => told(disk, NOT_NOTED).length > 0);
      const noted = disks.filter((disk) => !without.includes(disk));
      expect(Math.min(without.length, noted.length)).toBeGreaterThan(2);
      for (const disk of without)
        expect(told(disk, NOT_NOTED)).toMatchObject([{ level: 50, msg: expect.stringContaining('ENOSPC') }]);
      expect(daemon.lines.filter(({ msg }) => msg === 'serving')).toHaveLength(10);
      // A file whose blocks are not there would end the process when it is written to.
      for (const name of readdirSync(path)) {
        expect(name).not.toContain('.new');
        const { blocks, size } = statSync(join(path, name));
        expect(blocks * 512).toBeGreaterThanOrEqual(size);
      }
      for (const disk of noted) await isNoted(path, disk);

      resize(4 * 1024 * 1024);
      for (const disk of without) {
        await expect.poll(() => told(disk, AGAIN), SOON).toHaveLength(1);
        await isNoted(path, disk);
      }
      await expect.poll(() => readdirSync(path).filter((name) => name.endsWith('-image')), SOON).toHaveLength(10);
      await stops(ended, disks);
      expect(readdirSync(path)).toEqual([]);
    },
  );

  it('that is read-only: the disk is served and told of, and has a journal when it may be written', async () => {
    const { path, remount } = mountTmpfs(8 * 1024 * 1024);
    remount('ro');
    const ended = daemon.start({ threads: 0, 'journal-directory': path });
    await daemon.says('ready');
    const disks = await attach(1);
    await isServed(disks[0]);
    expect(told(disks[0], NOT_NOTED)).toMatchObject([{ msg: expect.stringContaining('EROFS') }]);
    remount('rw');
    await expect.poll(() => told(disks[0], AGAIN), SOON).toHaveLength(1);
    await isNoted(path, disks[0]);
    await stops(ended, disks);
  });
});

describe('a journal folder that is lost while disks are served', () => {
  it.each<[string, (folder: string) => void, (folder: string) => void]>([
    ['removed', (folder) => rmSync(folder, { recursive: true }), () => {}],
    [
      'emptied',
      (folder) => {
        for (const name of readdirSync(folder)) rmSync(join(folder, name));
      },
      () => {},
    ],
    [
      'another file now',
      (folder) => {
        renameSync(folder, `${folder}-away`);
        writeFileSync(folder, '');
      },
      (folder) => {
        rmSync(folder);
      },
    ],
  ])('because it is %s is told, and the disks have journals there again', async (_, lose, mend) => {
    const above = mkdtempSync('/dev/shm/blockd-journal-');
    onTestFinished(() => rmSync(above, { recursive: true }));
    const folder = join(above, 'journal');
    mkdirSync(folder, { mode: 0o700 });
    const ended = daemon.start({ threads: 0, 'journal-directory': folder });
    await daemon.says('ready');
    const disks = await attach(2);
    for (const disk of disks) await isNoted(folder, disk);
    lose(folder);
    for (const disk of disks) {
      await expect
        .poll(() => told(disk, NOT_NOTED), SOON)
        .toMatchObject([{ msg: expect.stringContaining('was removed') }]);
      await isServed(disk);
    }
    mend(folder);
    for (const disk of disks) {
      await expect.poll(() => told(disk, AGAIN), SOON).toHaveLength(1);
      await isNoted(folder, disk);
    }
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    await stops(ended, disks);
    expect(readdirSync(folder)).toEqual([]);
  });
});
