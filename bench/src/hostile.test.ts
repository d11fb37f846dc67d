import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runRound } from './hostile/host/round.js';
import { drawSetup, type Fixed } from './hostile/host/setup.js';
import { SMALL } from './hostile/testing/small-round.js';

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
describe('each request is answered once, with the right data, no ring stops, and nothing is left behind', () => {
  it.each<[string, Fixed]>([
    ['copied', {}],
    ['mapped, and connections that end badly', { transfer: 'map', lives: 5, guests: 2 }],
    ['persistent grants, which do not fit, and two queues', { transfer: 'persistent', persistentPages: 16, queues: 2 }],
    ['whose sectors are large, which guests are told', { sectorSize: 4096, sectorPolicy: 'image' }],
    ['whose sectors are large, which guests are not told', { sectorSize: 4096 }],
    ['from a file', { engine: 'io_uring', depth: 64 }],
    ['on storage that hangs, fails and lies', { odd: true, depth: 8 }],
    ['on storage that hangs for longer than anybody waits', { hangs: true, lives: 4 }],
    ['on a server of blocks', { engine: 'nbd' }],
    ['with words that are exchanged after the push', { races: true }],
    ['with nonsense in the headers of rings', { scribbles: true }],
    ['on rings that are moved', { moves: true, lives: 3 }],
    ['while backends take over from each other', { takeOvers: true }],
    ['until the power is cut', { engine: 'power-cut' }],
  ])('%s', async (_name, fixed) => {
    const round = await runRound(drawSetup(11, 800, { ...SMALL, ...fixed }));
    expect(round.answered).toBeGreaterThanOrEqual(800);
    expect(round.verified).toBeGreaterThan(0);
  });

  it('while backends end with requests in flight, which the next one has from their journals', async () => {
    const round = await runRound(drawSetup(11, 3000, { ...SMALL, takeOvers: true, hangs: true }));
    expect(round.answered).toBeGreaterThanOrEqual(3000);
    expect(round.leftInFlight).toBeGreaterThan(0);
  });

  it('on threads: the guests, the victim, and the backend', async () => {
    const json = join(folder, 'results.json');
    const fixed = ['--threads', '1', '--guest-threads', '1', '--guests', '2', '--lives', '2', '--engine', 'memory'];
    const rest = [
      '--odd',
      '0',
      '--hangs',
      '0',
      '--races',
      '1',
      '--moves',
      '1',
      '--take-overs',
      '1',
      '--burners',
      '0',
      '--depth',
      '64',
      '--seed',
      '1',
    ];
    const { code, output } = await hostile('--requests', '1000', '--json', json, ...fixed, ...rest);
    expect([code, output]).toEqual([0, expect.stringContaining('1 rounds, ')]);
    const results = JSON.parse(readFileSync(json, 'utf8'));
    expect(results.requests).toBeGreaterThanOrEqual(1000);
    expect(results.verified).toBeGreaterThan(0);
    expect(results.failure).toBeUndefined();
  });
});

it('says which options it has, and what is wrong with one', async () => {
  const [help, engine] = await Promise.all([hostile('--help'), hostile('--engine', 'tape')]);
  expect(help).toMatchObject({ code: 0, output: expect.stringContaining('--seed SEED') });
  expect(engine).toMatchObject({ code: 2, output: expect.stringContaining('io_uring') });
});
