import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { qmpVersion } from '../../control/qemu-version.js';
import { runBlockd } from '../../testing/process.js';
import { TerminalBlockd } from '../../testing/terminal.js';

const GIB = 2 ** 30;
const DEVICE = 'qdisk-5-51712';

/** What begins a job, with what may be said of it. */
const BEGINNINGS = {
  'block-stream': { device: 'str', 'speed?': 'int' },
  'block-commit': { device: 'str', 'speed?': 'int' },
  'drive-backup': { device: 'str', target: 'str', 'speed?': 'int', sync: 'str', format: 'str', mode: 'str' },
} as const;

let directory: string;
/** In the daemon's place, so that a job is as far as the test wants it. */
let server: QmpServer;
let hangs: boolean;
/** How often the daemon was asked for its jobs. */
let asked: number;
let job: { device: string; offset: number; len: number } | undefined;
const path = () => join(directory, 'control');

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'jobs-test-'));
  job = undefined;
  hangs = false;
  asked = 0;
  const begin = () => {
    job = { device: DEVICE, offset: 0, len: 4 * GIB };
  };
  const commands = {
    'x-query-disks': qmpCommand({
      members: { 'disk?': 'str' },
      returns: { array: 'any' },
      run: () => [{ device: DEVICE }],
    }),
    'query-block-jobs': qmpCommand({
      members: {},
      returns: { array: 'any' },
      run: () => {
        asked++;
        return hangs ? new Promise<never>(() => {}) : job ? [job] : [];
      },
    }),
    'block-job-cancel': qmpCommand({ members: { device: 'str', 'force?': 'bool' }, run: () => {} }),
    ...Object.fromEntries(
      Object.entries(BEGINNINGS).map(([name, members]) => [name, qmpCommand({ members, run: begin })]),
    ),
  };
  const events = { BLOCK_JOB_COMPLETED: { device: 'str' } } as const;
  server = new QmpServer({ commands, events, version: { ...qmpVersion(), package: 'xen-blockd 0.0.0' } });
  await once(server.listener.listen(path()), 'listening');
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true });
});

function complete(): void {
  job = undefined;
  server.announce('BLOCK_JOB_COMPLETED', { device: DEVICE });
}

const JOBS = [
  ['flatten', 'web1:xvda'],
  ['commit', 'web1:xvda'],
  ['backup', 'web1:xvda', '/backup/a.qcow2'],
];

it.each(JOBS)('%s waits for an answer about its job as long as --timeout says', async (...args) => {
  hangs = true;
  const late = await runBlockd(...args, '--socket', path(), '--timeout', '0.3');
  expect(late).toMatchObject({ code: 1, stdout: '' });
  expect(late.stderr).toMatch(
    /^xen-blockd: socket .*: the daemon does not answer within 0\.3 seconds; .* --timeout\n$/,
  );
  expect(job).toBeUndefined();
});

it.each(JOBS)('%s asks once which jobs there are before it begins its own', async (...args) => {
  expect((await runBlockd(...args, '--socket', path(), '--no-wait')).code).toBe(0);
  expect([asked, job]).toEqual([1, expect.anything()]);
});

it.each(['flatten', 'commit'])('%s begins no job where one runs that was left to go on', async (name) => {
  const left = { device: DEVICE, offset: GIB, len: 4 * GIB };
  job = left;
  expect((await runBlockd(name, 'web1:xvda', '--socket', path(), '--no-wait')).code).toBe(0);
  expect([asked, job]).toEqual([1, left]);
});

it.each(JOBS)('%s says so when the daemon goes, or hangs, while its job runs', async (...args) => {
  const left = runBlockd(...args, '--socket', path(), '--timeout', '0.3');
  await expect.poll(() => job, { timeout: 20_000 }).toBeDefined();
  hangs = true;
  const unknown = /^xen-blockd: qdisk-5-51712: how its job ends is not known: socket .*: the daemon /;
  expect(await left).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(unknown) });
  expect((await left).stderr).toContain('does not answer within 0.3 seconds');
  job = undefined;
  hangs = false;
  const lost = runBlockd(...args, '--socket', path());
  await expect.poll(() => job, { timeout: 20_000 }).toBeDefined();
  await server.close();
  expect(await lost).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(unknown) });
  expect((await lost).stderr).toContain('the daemon closed the connection');
});

it.each(['flatten', 'commit'])('%s --cancel tells that it is done', async (name) => {
  const args = [name, 'web1:xvda', '--cancel', '--socket', path()];
  expect(await runBlockd(...args)).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^qdisk-5-51712 is not (flattened|committed) any further\n$/),
    stderr: '',
  });
  const { code, stdout } = await runBlockd(...args, '--json');
  expect([code, JSON.parse(stdout)]).toEqual([0, { device: DEVICE, cancelled: true }]);
});

const flatten = ['flatten', 'web1:xvda'];

needs('script').it('the progress of a job is one line that fits the terminal, and nothing of it stays', async () => {
  const size = { columns: 30, rows: 10 };
  await using terminal = await TerminalBlockd.start([...flatten, '--socket', path()], size);
  await terminal.until((output) => output.includes(']   0 %'));
  if (job) job.offset = 3 * GIB;
  await terminal.until((output) => output.includes(']  75 %'));
  complete();
  expect((await terminal.ended()).code).toBe(0);
  const [, shown = ''] = terminal.output.split(/process \d+\.\r?\n/);
  const [drawn, last = ''] = shown.split(/\r\u001b\[K(?=\w)/);
  const bars = drawn.split(/\u001b\[K/).map((text) => text.replaceAll('\r', ''));
  expect(new Set(bars.filter(Boolean))).toEqual(
    new Set([`[${'.'.repeat(21)}]   0 %`, `[${'#'.repeat(15)}......]  75 %`]),
  );
  expect(last).toMatch(/^qdisk-5-51712 needs its snapshots no more\r?\n/);
});

needs('script').it('a terminal that is dumb gets no bar', async () => {
  const env = { TERM: 'dumb' };
  await using terminal = await TerminalBlockd.start([...flatten, '--socket', path()], undefined, env);
  await expect.poll(() => job).toBeDefined();
  complete();
  expect((await terminal.ended()).code).toBe(0);
  expect(terminal.output).toContain(`${DEVICE} needs its snapshots no more`);
  expect(terminal.output).not.toMatch(/\u001b|%/);
});
