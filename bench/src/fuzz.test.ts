import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../dist/fuzz.js', import.meta.url));
const SECONDS = 60;
const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the built program: the packages are built before the tests. */
function fuzz(...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [PROGRAM, ...args], (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? 1, output: stdout + stderr });
    });
  });
}

/** A few thousand requests; `npm run fuzz` is the long form. */
it.each([
  ['whatever is drawn', []],
  ['files, persistent grants, small memory and two queues', ['--transfer', 'persistent', '--engine', 'io_uring']],
  ['storage that ends operations late and in any order', ['--odd', '1']],
  [
    'disks that are connected, moved and closed meanwhile, on worker threads',
    ['--churn', '1', '--moves', '1', '--threads', '2', '--odd', '0'],
  ],
])(
  'each request is answered once, with the right data, and no ring stops: %s',
  async (_name, fixed) => {
    const json = join(folder, 'results.json');
    const small = ['--memory', '2', '--queues', '2', '--burners', '0', '--depth', '64'];
    const args = ['--requests', '2000', '--round', '500', '--seed', '1', '--json', json, ...small, ...fixed];
    const { code, output } = await fuzz(...args);
    expect([code, output]).toEqual([0, expect.stringContaining('4 rounds, 2000 requests')]);
    const results = JSON.parse(readFileSync(json, 'utf8'));
    expect(results).toMatchObject({ seed: 1, rounds: 4, requests: 2000 });
    expect(results.failure).toBeUndefined();
  },
  SECONDS * 1000,
);

it('says which options it has, and what is wrong with one', async () => {
  expect(await fuzz('--help')).toMatchObject({ code: 0, output: expect.stringContaining('--seed SEED') });
  expect(await fuzz('--queues', 'two')).toMatchObject({
    code: 2,
    output: expect.stringContaining('--queues is two; expected a whole number'),
  });
  expect(await fuzz('--engine', 'tape')).toMatchObject({ code: 2, output: expect.stringContaining('io_uring') });
});
