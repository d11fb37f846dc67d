import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runRound } from './hostile/host/round.js';
import { drawSetup, type Fixed } from './hostile/host/setup.js';
import { MUTANTS } from './hostile/mutants/mutants.js';

const PROGRAM = fileURLToPath(new URL('../dist/hostile.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the built program: the packages are built before the tests. */
function hostile(...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [PROGRAM, ...args], (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? 1, output: stdout + stderr });
    });
  });
}

/** Some thousand requests; `npm run test:hostile` is the long form. */
it.each([
  ['whatever is drawn', []],
  ['files, persistent grants, small memory and two queues', ['--transfer', 'persistent', '--engine', 'io_uring']],
  [
    'storage that ends operations late and in any order, and words that are exchanged after the push',
    ['--odd', '1', '--races', '1', '--lives', '1'],
  ],
  [
    'disks that are connected, moved and closed meanwhile, on worker threads',
    ['--lives', '4', '--moves', '1', '--threads', '2', '--odd', '0', '--engine', 'memory'],
  ],
])('each request is answered once, with the right data, and no ring stops: %s', async (_name, fixed) => {
  const json = join(folder, `${fixed.join('')}.json`);
  const small = ['--memory', '2', '--queues', '2', '--burners', '0', '--depth', '64', '--guests', '2'];
  const args = ['--requests', '4000', '--round', '2000', '--seed', '1', '--json', json, ...small, ...fixed];
  const { code, output } = await hostile(...args);
  expect([code, output]).toEqual([0, expect.stringContaining('2 rounds, ')]);
  const results = JSON.parse(readFileSync(json, 'utf8'));
  expect(results.requests).toBeGreaterThanOrEqual(4000);
  expect(results.verified).toBeGreaterThan(0);
  expect(results.failure).toBeUndefined();
});

/** Everything on one thread and in memory: the same requests in the same order each time. */
const SMALL: Fixed = {
  engine: 'memory',
  transfer: 'copy',
  memoryMiB: 2,
  guests: 1,
  lives: 1,
  queues: 1,
  threads: 0,
  guestThreads: 0,
  maxIndirectSegments: 64,
  pollMicroseconds: 0,
  depth: 32,
  odd: false,
  races: false,
  scribbles: false,
  burners: 0,
  moves: false,
  patienceSeconds: 1,
  victimMs: 500,
};

describe('a planted defect is noticed', () => {
  it('which a backend without one does not have', async () => {
    const round = await runRound(drawSetup(7, 3000, SMALL));
    expect(round.answered).toBeGreaterThanOrEqual(3000);
    expect((await runRound(drawSetup(7, 1000, { ...SMALL, races: true }))).answered).toBeGreaterThanOrEqual(1000);
    expect((await runRound(drawSetup(7, 1000, { ...SMALL, engine: 'power-cut' }))).answered).toBeGreaterThan(0);
  });

  it.each(MUTANTS)('$name', async ({ plant, fixed, noticed, requests = 2000 }) => {
    using planted = plant();
    const setup = drawSetup(7, requests, { ...SMALL, ...fixed });
    await expect(runRound(setup, planted)).rejects.toThrow(noticed);
  });
});

it('says which options it has, and what is wrong with one', async () => {
  expect(await hostile('--help')).toMatchObject({ code: 0, output: expect.stringContaining('--seed SEED') });
  expect(await hostile('--queues', 'two')).toMatchObject({
    code: 2,
    output: expect.stringContaining('--queues is two; expected a whole number'),
  });
  expect(await hostile('--engine', 'tape')).toMatchObject({ code: 2, output: expect.stringContaining('io_uring') });
});
