import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openFileImage } from './image.js';
import { PinnedFile } from './pinned-file.js';

let folder: string;
let inside: string;
let secret: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pinned-'));
  inside = join(folder, 'images');
  mkdirSync(join(inside, 'group'), { recursive: true });
  secret = join(folder, 'secret');
  writeFileSync(secret, 'S'.repeat(512));
});
afterEach(() => rmSync(folder, { recursive: true }));

const linux = needs('Linux');
const within = () => [inside];

function image(name: string, letter = 'i'): string {
  const path = join(inside, name);
  writeFileSync(path, letter.repeat(512));
  return path;
}

/** The first byte, read by a descriptor of its own. */
async function firstByte(pinned: PinnedFile): Promise<string> {
  const fd = await pinned.open(constants.O_RDONLY);
  const bytes = Buffer.alloc(1);
  readSync(fd, bytes, 0, 1, 0);
  closeSync(fd);
  return bytes.toString('latin1');
}

linux.describe('a path that leads out of the directories', () => {
  it.each<[string, () => string]>([
    ['is elsewhere', () => secret],
    ['goes up', () => `${inside}/group/../../secret`],
    ['is a link out', () => link('out', secret)],
    ['is a relative link out', () => link('relative', '../secret')],
    ['goes through a linked folder', () => join(link('folder', folder), 'secret')],
    ['is a link to a link out', () => link('second', link('first', secret))],
    ['goes through /proc/self/root', () => join(link('root', '/proc/self/root'), secret)],
    ['is a directory itself, beside it', () => `${inside}-more`],
  ])('%s: it is refused, by name', async (_, make) => {
    writeFileSync(`${inside}-more`, 'x'.repeat(512));
    const path = make();
    for (const open of [PinnedFile.open, openFileImage]) {
      await expect(open(path, { within: within() })).rejects.toMatchObject({
        code: 'ERR_IMAGE_OUTSIDE',
        path,
        message: `${path} is not in one of the directories ${inside}`,
      });
    }
  });

  const link = (name: string, to: string) => {
    const path = join(inside, name);
    symlinkSync(to, path);
    return path;
  };
});

linux.describe('a file that is pinned', () => {
  it('may be a link, and its directory too, as long as both end inside', async () => {
    image('group/disk');
    symlinkSync('group/disk', join(inside, 'relative'));
    symlinkSync(join(inside, 'relative'), join(folder, 'from-outside'));
    symlinkSync(inside, join(folder, 'linked'));
    for (const directory of [inside, join(folder, 'linked'), folder, '/']) {
      for (const path of [join(inside, 'relative'), join(folder, 'from-outside'), join(folder, 'linked/group/disk')]) {
        await using pinned = await PinnedFile.open(path, { within: ['/no/such', directory] });
        expect(await firstByte(pinned)).toBe('i');
      }
    }
  });

  it('is the same file, whatever its path becomes, and reads when it is gone', async () => {
    const path = image('disk');
    await using pinned = await PinnedFile.open(path, { within: within() });
    const identity = await pinned.identity();
    rmSync(path);
    symlinkSync(secret, path);
    expect(await firstByte(pinned)).toBe('i');
    expect(await pinned.identity()).toBe(identity);
    await expect(PinnedFile.open(path, { within: within() })).rejects.toMatchObject({ code: 'ERR_IMAGE_OUTSIDE' });
    await pinned.close();
    await pinned.close();
  });

  it('G5: is never one from outside, while another process exchanges it and its folder as fast as it can', async () => {
    image('group/disk');
    mkdirSync(join(folder, 'bad'));
    writeFileSync(join(folder, 'bad/disk'), 'S'.repeat(512));
    symlinkSync(join(folder, 'bad'), join(inside, 'bad-group'));
    symlinkSync(secret, join(inside, 'bad-disk'));
    const script = `
      const { renameSync: move } = require('node:fs');
      const swap = (a, b) => { move(a, 'spare'); move(b, a); move(a, b); move('spare', a); };
      process.stdout.write('going');
      for (;;) { swap('group', 'bad-group'); swap('group/disk', 'bad-disk'); }`;
    const swapper = spawn(process.execPath, ['-e', script], { cwd: inside, stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await new Promise((resolve) => swapper.stdout.once('data', resolve));
      const seen = new Set<string>();
      const until = performance.now() + 500;
      while (performance.now() < until || seen.size < 2) {
        try {
          await using pinned = await PinnedFile.open(join(inside, 'group/disk'), { within: within() });
          seen.add(await firstByte(pinned));
        } catch (error) {
          seen.add((error as { code: string }).code);
        }
      }
      expect([...seen]).not.toContain('S');
      expect([...seen]).toContain('i');
      expect([...seen]).toContain('ERR_IMAGE_OUTSIDE');
      expect(swapper.exitCode).toBe(null);
    } finally {
      swapper.kill('SIGKILL');
    }
  });
});

linux.it('an image that is opened reads, and is claimed, by its descriptor and not by its path', async () => {
  const path = image('disk');
  await using opened = await openFileImage(path, { within: within() });
  renameSync(path, `${path}.away`);
  symlinkSync(secret, path);
  const shared = opened.share();
  const { attachImage } = await import('../attach.js');
  await using again = await attachImage(shared?.data);
  expect([again.size, again.identity]).toEqual([512, opened.identity]);
});
