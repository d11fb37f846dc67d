import { readFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../../../testing/daemon.js';
import { runBlockd } from '../../../testing/process.js';
import { TerminalBlockd } from '../../../testing/terminal.js';

const SIZE = { columns: 100, rows: 12 };
/** A program that fails where nobody expects it. */
const FAILS = "process.on('SIGUSR2', () => { throw new Error('unforeseen') })";

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const args = () => ['top', '--interval', '0.2', '--socket', daemon.host.path('control')];
const onTerminal = (size = SIZE, env?: NodeJS.ProcessEnv) => TerminalBlockd.start(args(), size, env);
/** The other screen is entered as often as it is left. */
const leaves = ({ output }: TerminalBlockd) =>
  output.split('\u001b[?1049l').length === output.split('\u001b[?1049h').length && output.includes('\u001b[?25h');

it('needs a terminal, and says what does not', async () => {
  const { code, stdout, stderr } = await runBlockd(...args());
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain('elsewhere use: xen-blockd stats --watch');
});

needs('script').it('shows disks, one of them, and what is typed, until q', async () => {
  await daemon.attach('web1');
  const { domid } = await daemon.attach('db1');
  await daemon.host.connectGuest(domid);
  await using terminal = await onTerminal();
  await terminal.shows('2 disks, 2 guests');
  terminal.type('/db');
  await terminal.shows('1 of 2 disks');
  terminal.type('\r\r');
  await terminal.shows(/name +db1/);
  terminal.type('q');
  await terminal.shows('filter: db');
  terminal.type('q');
  expect(await terminal.ended()).toEqual({ code: 0, restored: true });
  expect(leaves(terminal)).toBe(true);
});

needs('script').it('is drawn anew when the terminal has another size, down to 30 columns', async () => {
  await daemon.attach('web1');
  await using terminal = await onTerminal();
  await terminal.shows(/^device +guest +state +IOPS/m);
  terminal.resize({ columns: 30, rows: 6 });
  await terminal.shows(/^device +IOPS\* +MB\/s$/m);
  // The rows are told after the columns.
  await terminal.until(() => terminal.lines.length <= 6);
  for (const line of terminal.lines) expect([...line].length).toBeLessThanOrEqual(30);
  terminal.type('q');
  await terminal.ended();
});

needs('script').it('shows that the daemon has gone, and goes on when it is back', async () => {
  await daemon.attach('web1');
  await using terminal = await onTerminal();
  await terminal.shows('1 disk, 1 guest');
  daemon.stop();
  await daemon.ended();
  await terminal.shows('no daemon answers there');
  expect(terminal.lines.join('\n')).toContain('1 disk, 1 guest');
  daemon.start();
  await terminal.until(() => !terminal.lines.join('\n').includes('no daemon answers there'));
  terminal.type('q');
  expect((await terminal.ended()).code).toBe(0);
});

needs('script').it.each([
  ['SIGTERM', 143],
  ['SIGHUP', 129],
  ['SIGINT', 130],
] as const)('leaves the terminal as it was after %s', async (signal, code) => {
  await using terminal = await onTerminal();
  await terminal.shows('0 disks');
  terminal.signal(signal);
  expect(await terminal.ended()).toEqual({ code, restored: true });
  expect(leaves(terminal)).toBe(true);
});

needs('script').it('leaves the terminal as it was after ctrl-C, and after a failure, which is told there', async () => {
  await using interrupted = await onTerminal();
  await interrupted.shows('0 disks');
  interrupted.type('\u0003');
  expect(await interrupted.ended()).toEqual({ code: 0, restored: true });
  const preload = `--import=data:text/javascript,${encodeURIComponent(FAILS)}`;
  await using failing = await onTerminal(SIZE, { NODE_OPTIONS: preload });
  await failing.shows('0 disks');
  failing.signal('SIGUSR2');
  expect(await failing.ended()).toEqual({ code: 1, restored: true });
  expect(leaves(failing)).toBe(true);
  expect(failing.output.slice(failing.output.lastIndexOf('\u001b[?1049l'))).toContain('xen-blockd: unforeseen');
});

needs('Linux', 'script').it('gives the terminal back while it is suspended, and goes on', async () => {
  await using terminal = await onTerminal();
  await terminal.shows('0 disks');
  terminal.type('\u001a');
  await terminal.until(() => leaves(terminal));
  await expect.poll(() => readFileSync(`/proc/${terminal.pid}/stat`, 'utf8')).toMatch(/\) T /);
  await daemon.attach('web1');
  terminal.signal('SIGCONT');
  await terminal.shows('1 disk, 1 guest');
  terminal.type('q');
  expect(await terminal.ended()).toEqual({ code: 0, restored: true });
});

needs('script').it('says on the terminal as it was that there is no daemon', async () => {
  await using terminal = await TerminalBlockd.start(['top', '--socket', daemon.host.path('none')], SIZE);
  expect(await terminal.ended()).toEqual({ code: 1, restored: true });
  expect(terminal.output).toContain('no daemon answers there');
  expect(terminal.output).not.toContain('\u001b[?1049h');
  await using dumb = await onTerminal(SIZE, { TERM: 'dumb' });
  expect(await dumb.ended()).toEqual({ code: 2, restored: true });
});
