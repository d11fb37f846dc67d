import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterAll, expect } from 'vitest';
import { packageRoot } from '../package-root.js';
import { lockInstance } from './instance-lock.js';

const folder = mkdtempSync(join(tmpdir(), 'instance-lock-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const { it } = needs(working('the addon of xen-sys', requireNativeAddon));

/** Each message is a file to lock; the answer is `won`, or the message of the error. An empty one lets go of it. */
const CONTENDER = `
const { createRequire } = require('node:module');
const { lockFile } = createRequire(process.argv[2])('@xenpv/xen-sys');
let lock;
process.on('message', (path) => {
  if (path === '') { lock?.release(); lock = undefined; return process.send('released'); }
  try { lock = lockFile(path); process.send('won'); } catch (error) { process.send(error.message); }
});
process.send('ready');
`;

async function ask(child: ChildProcess, path: string): Promise<string> {
  const answer = once(child, 'message');
  child.send(path);
  return String((await answer)[0]);
}

it('of twelve processes that want to serve one type at once exactly one wins, in each of twenty rounds', async () => {
  const program = join(folder, 'contender.cjs');
  writeFileSync(program, CONTENDER);
  const root = fileURLToPath(new URL('package.json', packageRoot));
  const children = Array.from({ length: 12 }, () => fork(program, [root]));
  try {
    await Promise.all(children.map((child) => once(child, 'message')));
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(children.map((child) => ask(child, join(folder, 'race'))));
      expect(answers.filter((answer) => answer === 'won')).toHaveLength(1);
      await Promise.all(children.map((child) => ask(child, '')));
    }
    // The kernel lets go of the lock of a process that is killed; until then the message names it.
    const [first, second] = children;
    expect(await ask(first, join(folder, 'race'))).toBe('won');
    expect(await ask(second, join(folder, 'race'))).toContain(`pid ${first.pid}`);
    first.kill('SIGKILL');
    await once(first, 'exit');
    expect(await ask(second, join(folder, 'race'))).toBe('won');
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}, 60_000);

it('daemons of different types run side by side, and those that share a type do not', () => {
  const directory = join(folder, 'locks');
  const first = lockInstance(['qdisk'], directory);
  const second = lockInstance(['vbd'], directory);
  expect(() => lockInstance(['vbd3', 'qdisk'], directory)).toThrow(
    expect.objectContaining({
      code: 'ERR_RUNNING',
      exitCode: 75,
      message: expect.stringContaining(`xen-blockd runs already (pid ${process.pid})`),
    }),
  );
  second[Symbol.dispose]();
  const third = lockInstance(['vbd', 'vbd3'], directory);
  for (const lock of [first, third]) lock[Symbol.dispose]();
});
