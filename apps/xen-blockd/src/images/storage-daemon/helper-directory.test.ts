import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { listenOnUnixSocket } from '../../unix-socket.js';
import { HelperDirectory, removeLeftDirectories } from './helper-directory.js';

let folder: string;
let base: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'helper-directory-'));
  base = join(folder, 'helpers');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A folder of a process that has ended. */
function leftDirectory(name = `xen-blockd-${spawnSync('true').pid}-1-AbCd12`): string {
  const path = join(base, name);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

it('only its user can look into it, or into what is above it', () => {
  const directory = HelperDirectory.make(base);
  for (const path of [base, directory.path]) expect(statSync(path).mode & 0o777).toBe(0o700);
  directory.remove();
  directory.remove();
  expect(existsSync(directory.path)).toBe(false);
});

it('two are never the same', () => {
  expect(HelperDirectory.make(base).path).not.toBe(HelperDirectory.make(base).path);
});

const root = { name: 'root', met: () => process.getuid?.() === 0 };

it.each<[string, (path: string) => void, string]>([
  ['a link', (path) => symlinkSync(folder, path), 'not a directory'],
  ['where others may write', (path) => mkdirSync(path) === undefined && chmodSync(path, 0o777), 'chmod 700'],
])('%s is not taken for the folder above, nor for its own', (_, plant, text) => {
  plant(base);
  const error = expect.objectContaining({ code: 'ERR_SOCKET', message: expect.stringContaining(text) });
  expect(() => HelperDirectory.make(base)).toThrow(error);
  rmSync(base, { recursive: true });
  const directory = HelperDirectory.make(base);
  directory.remove();
  plant(directory.path);
  expect(() => directory.clear()).toThrow(error);
});

needs(root).it('what belongs to another user is not taken for the folder above', () => {
  mkdirSync(base);
  spawnSync('chown', ['1', base]);
  expect(() => HelperDirectory.make(base)).toThrow('it belongs to user 1');
});

needs('Linux').it('what a process that is gone left is removed, and nothing else', async () => {
  const kept = [
    HelperDirectory.make(base).path,
    leftDirectory('of-somebody-else'),
    leftDirectory(`xen-blockd-${process.pid}-x-AbCd12`),
  ];
  const listening = leftDirectory();
  const server = createServer();
  await listenOnUnixSocket(server, join(listening, 'nbd'));
  kept.push(listening);
  const left = leftDirectory();
  // The number is in use again, by another process.
  const reused = leftDirectory(`xen-blockd-${process.pid}-1-AbCd12`);
  expect(await removeLeftDirectories(base)).toEqual([]);
  expect([left, reused].filter((path) => existsSync(path))).toEqual([]);
  expect(kept.filter((path) => !existsSync(path))).toEqual([]);
  await new Promise((resolve) => server.close(resolve));
  expect(await removeLeftDirectories(base)).toEqual([]);
  expect(existsSync(listening)).toBe(false);
});

needs('Linux').it('a link is not followed when folders are tidied up', async () => {
  mkdirSync(base);
  const link = join(base, `xen-blockd-${spawnSync('true').pid}-1-AbCd12`);
  symlinkSync(folder, link);
  expect(await removeLeftDirectories(base)).toEqual([]);
  expect(lstatSync(link).isSymbolicLink()).toBe(true);
  expect(existsSync(folder)).toBe(true);
});

needs('Linux').it('there is nothing to tidy up where there is no folder', async () => {
  expect(await removeLeftDirectories(join(folder, 'none'))).toEqual([]);
});
