import { linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, working } from '@xenpv/test-support';
import { afterAll, expect } from 'vitest';
import { requireNativeAddon } from '../native/provider.js';
import { lockFile } from './file-lock.js';
import { mapSharedFile } from './shared-file.js';

const folder = mkdtempSync(join(tmpdir(), 'file-lock-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const { it } = needs(working('the native addon', requireNativeAddon));

it('a file is locked once, and whoever wants it too learns the process', () => {
  const path = join(folder, 'lock');
  const lock = lockFile(path);
  expect(() => lockFile(path)).toThrow(
    expect.objectContaining({ code: 'EAGAIN', message: `${path} is locked by pid ${process.pid}` }),
  );
  lock.release();
  lock.release();
  lockFile(path).release();
});

it.each([
  ['lockFile', (path: string) => lockFile(path)],
  ['mapSharedFile', (path: string) => mapSharedFile(path, 4096)],
])('%s refuses a planted link and says so, and nothing is written through it', (_name, make) => {
  const victim = join(folder, 'victim');
  writeFileSync(victim, 'precious');
  const [link, hardLink, dangling] = ['link', 'hard', 'dangling'].map((name) => join(folder, name));
  symlinkSync(victim, link);
  linkSync(victim, hardLink);
  symlinkSync(join(folder, 'not-there'), dangling);
  for (const path of [link, dangling]) {
    expect(() => make(path)).toThrow(
      expect.objectContaining({ code: 'ELOOP', message: expect.stringContaining('symbolic link') }),
    );
  }
  expect(() => make(hardLink)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  expect(readFileSync(victim, 'utf8')).toBe('precious');
  for (const path of [link, hardLink, dangling]) rmSync(path);
});
