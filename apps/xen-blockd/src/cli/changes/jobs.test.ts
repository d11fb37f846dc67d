import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { qmpVersion } from '../../control/qemu-version.js';
import { TerminalBlockd } from '../../testing/terminal.js';

const GIB = 2 ** 30;
const DEVICE = 'qdisk-5-51712';

let directory: string;
/** In the daemon's place, so that a job is as far as the test wants it. */
let server: QmpServer;
let job: { device: string; offset: number; len: number } | undefined;
const path = () => join(directory, 'control');

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'jobs-test-'));
  job = undefined;
  const begin = () => {
    job = { device: DEVICE, offset: 0, len: 4 * GIB };
  };
  const commands = {
    'x-query-disks': qmpCommand({
      members: { 'disk?': 'str' },
      returns: { array: 'any' },
      run: () => [{ device: DEVICE }],
    }),
    'query-block-jobs': qmpCommand({ members: {}, returns: { array: 'any' }, run: () => (job ? [job] : []) }),
    'block-stream': qmpCommand({ members: { device: 'str', 'speed?': 'int' }, returns: 'any', run: begin }),
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
