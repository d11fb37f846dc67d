import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { needs } from './index.js';
import { endProcessesOf, ownFolder } from './own-folder.js';

let parent: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'own-folder-'));
});
afterEach(() => rmSync(parent, { recursive: true }));

needs('Linux').it('a folder of a process that is gone goes with what serves from it, and no other does', async () => {
  const gone = join(parent, `host-${spawnSync('true').pid}-abcdef`);
  const other = join(parent, `another-${spawnSync('true').pid}-abcdef`);
  const [mine, first] = [ownFolder(parent, 'host'), join(parent, `host-${process.ppid}-abcdef`)];
  for (const folder of [gone, other, first]) mkdirSync(folder);
  const [left, living] = [gone, first].map((folder) => spawn('tail', ['-f', '/dev/null', `${folder}/x`]));
  const ended = once(left, 'exit');
  await Promise.all([once(left, 'spawn'), once(living, 'spawn')]);
  expect(ownFolder(parent, 'host')).not.toBe(mine);
  await ended;
  expect([gone, other, first, mine].map((folder) => existsSync(folder))).toEqual([false, true, true, true]);
  expect([living.exitCode, living.signalCode]).toEqual([null, null]);
  endProcessesOf(first);
  await once(living, 'exit');
});
