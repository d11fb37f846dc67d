import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { boundByPermissions, needs, setpriv } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qmpVersion } from '../../control/qemu-version.js';
import { unopenedStatus } from '../../status/disks/device-status.js';
import { TestDaemon } from '../../testing/daemon.js';
import { PROGRAM, runBlockd } from '../../testing/process.js';
import { RunFolder } from '../../testing/run-folder.js';
import { TerminalBlockd } from '../../testing/terminal.js';

/** Each command that asks, with what it needs. */
const ASKING = [
  ['status'],
  ['list'],
  ['show', 'web1:xvda'],
  ['stats'],
  ['stats', '--watch'],
  ['refresh'],
  ['resize', 'web1:xvda', '1G'],
  ['eject', 'web1:xvda'],
  ['insert', 'web1:xvda', '/a.iso'],
  ['resume', 'web1:xvda'],
  ['pause', 'web1:xvda'],
  ['unpause', 'web1:xvda'],
  ['throttle', 'web1:xvda'],
  ['trace', 'web1:xvda'],
  ['attach', 'web1', '/a.img'],
  ['detach', 'web1:xvda'],
  ['snapshot', 'web1:xvda', '/a.qcow2'],
  ['flatten', 'web1:xvda'],
  ['flatten', 'web1:xvda', '--cancel'],
  ['commit', 'web1:xvda'],
  ['commit', 'web1:xvda', '--cancel'],
  ['backup', 'web1:xvda', '/a.qcow2'],
  ['upgrade'],
];

const ADDRESS = { type: 'qdisk', domid: 5, devid: 51712 };

/** One of each way to ask. */
const WAYS = ['status', 'list', 'stats', 'resize', 'trace', 'upgrade', 'snapshot', 'flatten', 'commit', 'backup'];

describe('without a daemon', () => {
  let directory: string;
  let server: Server | undefined;
  const path = () => join(directory, 'control');

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'asking-test-'));
  });
  afterEach(() => {
    server?.close();
    server = undefined;
    rmSync(directory, { recursive: true });
  });

  /** 69 is of status, for monitoring, and of upgrade: 1 means there that something is wrong. */
  const codeOf = ([name]: readonly string[]) => (name === 'status' || name === 'upgrade' ? 69 : 1);

  it('each command says so, and how to start it', async () => {
    const outcomes = await Promise.all(ASKING.map((args) => runBlockd(...args, '--socket', path())));
    for (const [i, { code, stdout, stderr }] of outcomes.entries()) {
      expect([ASKING[i], code, stdout]).toEqual([ASKING[i], codeOf(ASKING[i]), '']);
      expect(stderr).toMatch(/^xen-blockd: socket .*: no daemon answers there \(ENOENT\); start it with systemctl/);
    }
  });

  it('a command waits for one that does not answer as long as --timeout says', async () => {
    const asking = ASKING.filter(([name]) => WAYS.includes(name));
    server = createServer((socket) => socket.on('error', () => {}).resume());
    await once(server.listen(path()), 'listening');
    const outcomes = await Promise.all(
      asking.map((args) => runBlockd(...args, '--socket', path(), '--timeout', '0.2')),
    );
    for (const [i, { code, stdout, stderr }] of outcomes.entries()) {
      expect([asking[i], code, stdout]).toEqual([asking[i], codeOf(asking[i]), '']);
      expect(stderr).toContain('the daemon does not answer within 0.2 seconds');
      expect(stderr).toContain('--timeout');
    }
  });

  it.each(['0', 'soon', ''])('a timeout of %j is wrong usage', async (timeout) => {
    expect(await runBlockd('list', '--socket', path(), `--timeout=${timeout}`)).toMatchObject({ code: 2, stdout: '' });
  });

  it('an older one is told by what it does not know', async () => {
    const commands = { 'x-query-disks': qmpCommand({ members: {}, returns: { array: 'any' }, run: () => [] }) };
    await using older = new QmpServer({ commands, version: { ...qmpVersion(), package: 'xen-blockd 0.0.0-older' } });
    await once(older.listener.listen(path()), 'listening');
    const advice = /it is xen-blockd 0\.0\.0-older, this is xen-blockd \d\S+: if it is older, systemctl restart/;
    const status = await runBlockd('status', '--socket', path());
    expect([status.code, status.stderr]).toEqual([69, expect.stringMatching(advice)]);
    expect(status.stderr).toContain('The command x-query-daemon has not been found');
    const show = await runBlockd('show', 'web1:xvda', '--socket', path());
    expect([show.code, show.stderr]).toEqual([1, expect.stringMatching(advice)]);
    expect(await runBlockd('list', '--socket', path())).toMatchObject({ code: 0, stdout: 'no disks\n' });
  });

  it('one that ends meanwhile may have done what was asked', async () => {
    const end = async () => {
      await ending?.close();
    };
    const commands = {
      'x-attach': qmpCommand({ members: { domain: 'str', image: 'str' }, run: end }),
      'x-query-disks': qmpCommand({ members: {}, run: end }),
    };
    let ending: QmpServer | undefined;
    for (const [args, said] of [
      [['attach', 'web1', '/a'], 'the daemon closed the connection; see in xen-blockd list what it has done'],
      [['list'], 'the daemon closed the connection'],
    ] as const) {
      ending = new QmpServer({ commands, version: qmpVersion() });
      await once(ending.listener.listen(path()), 'listening');
      const { code, stderr } = await runBlockd(...args, '--socket', path());
      expect([code, stderr]).toEqual([1, `xen-blockd: socket ${path()}: ${said}\n`]);
    }
  });

  it.each<[string, (report: Record<string, unknown>) => unknown, string]>([
    ['without statistics', ({ statistics, ...rest }) => rest, 'statistics'],
    ['whose size is a text', (report) => ({ ...report, size: '1G' }), 'size'],
    [
      'that began at no time',
      (report) => ({ ...report, held: { reason: 'a', since: 'b', attempts: 1 } }),
      'held.since',
    ],
    ['that is a number', () => 7, ''],
  ])('one whose answers have a disk %s is told by its version', async (_, changed, member) => {
    const report = JSON.parse(JSON.stringify({ ...unopenedStatus(ADDRESS, {}), backendPath: '/backend' }));
    const commands = {
      'x-query-disks': qmpCommand({ members: { 'disk?': 'str' }, returns: 'any', run: () => [changed(report)] }),
      'x-query-daemon': qmpCommand({ members: {}, returns: 'any', run: () => ({ pid: 'one' }) }),
    };
    await using other = new QmpServer({ commands, version: { ...qmpVersion(), package: 'xen-blockd 9.9.9' } });
    await once(other.listener.listen(path()), 'listening');
    const outcomes = [['list'], ['stats'], ['stats', '--watch'], ['show', 'web1:xvda'], ['list', '--json'], ['status']];
    for (const args of outcomes) {
      const { code, stdout, stderr } = await runBlockd(...args, '--socket', path());
      expect([args, code, stdout]).toEqual([args, codeOf(args), '']);
      const where = args[0] === 'status' ? 'x-query-daemon version' : `x-query-disks 0${member && `.${member}`}`;
      expect(stderr).toContain(`the daemon's answer cannot be read: ${where}: `);
      expect(stderr).toMatch(/; it is xen-blockd 9\.9\.9, this is xen-blockd \d\S+: if it is older, systemctl restart/);
    }
  });

  needs(setpriv).it('no permission is told apart from no daemon', async () => {
    server = createServer();
    await once(server.listen(path()), 'listening');
    execFileSync('chown', process.getuid?.() === 0 ? ['65534', path()] : ['--reference', path(), path()]);
    execFileSync('chmod', ['0', path()]);
    const [program, args] = boundByPermissions(process.execPath, [PROGRAM, 'status', '--socket', path()]);
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
    expect([code, said]).toEqual([69, expect.stringContaining('no permission; run this as the user of the daemon')]);
  });

  it('status says it in JSON too', async () => {
    const { code, stdout } = await runBlockd('status', '--json', '--socket', path());
    expect(code).toBe(69);
    expect(JSON.parse(stdout)).toEqual({ running: false, problems: [expect.stringContaining('no daemon answers')] });
  });
});

describe('with a daemon', () => {
  let daemon: TestDaemon;

  beforeEach(async () => {
    daemon = await TestDaemon.create();
    daemon.start();
    await daemon.says('ready');
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

  const socket = () => ['--socket', daemon.host.path('control')];
  const blockd = (...args: string[]) => runBlockd(...args, ...socket());
  const listed = async (...args: string[]) =>
    (JSON.parse((await blockd('list', '--json', ...args)).stdout) as { guest: string }[]).map(({ guest }) => guest);

  it('list, stats and refresh are about the disks that are chosen', async () => {
    const { domid } = await daemon.attach('web1');
    await daemon.host.connectGuest(domid);
    await daemon.attach('db1');
    expect((await listed()).sort()).toEqual(['db1', 'web1']);
    expect(await listed('--guest', 'web1')).toEqual(['web1']);
    expect(await listed('--guest', `${domid}`)).toEqual(['web1']);
    expect(await listed('--guest', 'web')).toEqual([]);
    expect(await listed('--state', 'waiting')).toEqual(['db1']);
    expect(await listed('--state', 'connected', '--guest', 'db1')).toEqual([]);
    expect(await listed('--held')).toEqual([]);
    expect((await blockd('stats', '--guest', 'web1')).stdout).toMatch(new RegExp(`^qdisk-${domid}-51712\n`));
    const refreshed = await blockd('refresh', '--guest', 'web1', '--json');
    expect(JSON.parse(refreshed.stdout)).toMatchObject([{ guest: 'web1' }]);
    expect(await blockd('list', '--held')).toMatchObject({ code: 0, stdout: 'no disks\n' });
    expect(await blockd('list', '--state', 'well')).toMatchObject({ code: 2, stdout: '' });
    const both = await blockd('refresh', 'web1:xvda', '--held');
    expect([both.code, both.stderr]).toEqual([2, expect.stringContaining('not both')]);
  });

  it('status tells in a few lines how it is', async () => {
    const { domid } = await daemon.attach('web1');
    await daemon.host.connectGuest(domid);
    await daemon.attach('db1');
    const { code, stdout } = await blockd('status');
    expect(stdout).toMatch(/^xen-blockd \d\S+, pid \d+, since \S+Z, for /);
    expect(stdout).toMatch(/^ {2}serves +qdisk in domain 0$/m);
    expect(stdout).toMatch(/^ {2}disks +2: 1 connected, 1 waiting$/m);
    expect(stdout).toMatch(/^ {2}guests +2$/m);
    expect(stdout).toMatch(/^ {2}wrong now +nothing$/m);
    expect(code).toBe(0);
    const json = await blockd('status', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      running: true,
      pid: process.pid,
      serving: true,
      disks: { connected: 1, waiting: 1, held: 0, stopped: 0 },
      problems: [],
    });
  });

  it.each(['list', 'list --json', 'show web1:xvda', 'stats', 'status'])(
    '%s does not mind a reader that has gone',
    async (words) => {
      await daemon.attach('web1');
      const child = spawn(process.execPath, [PROGRAM, ...words.split(' '), ...socket()]);
      child.stdout.destroy();
      const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
      expect([said, code]).toEqual(['', 0]);
    },
  );

  needs('Linux').it('a full standard output is an error', async () => {
    await daemon.attach('web1');
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [PROGRAM, 'show', 'web1:xvda', ...socket()], {
      stdio: ['ignore', full, 'pipe'],
    });
    closeSync(full);
    const [said, [code]] = await Promise.all([text(child.stderr as NodeJS.ReadableStream), once(child, 'close')]);
    expect([said, code]).toEqual([expect.stringMatching(/standard output: .*ENOSPC/), 1]);
  });

  needs('script').it('a table fits a terminal of 30 columns, with colours', async () => {
    const { domid } = await daemon.attach('web1');
    await daemon.host.connectGuest(domid);
    await using terminal = await TerminalBlockd.start(['list', ...socket()], { columns: 30, rows: 10 });
    expect(await terminal.ended()).toEqual({ code: 0, restored: true });
    const [header, disk] = terminal.lines;
    expect(header).toMatch(/^ {2}device/);
    expect(disk).toMatch(/^ {2}qdisk-\d+-51712 /);
    expect([...disk].length).toBeLessThanOrEqual(30);
    await using wide = await TerminalBlockd.start(['list', ...socket()], { columns: 200, rows: 10 });
    await wide.ended();
    expect(wide.screen).toMatch(/\u001b\[32mx86_64, 1 ring\u001b\[39m/);
    await using plain = await TerminalBlockd.start(
      ['list', ...socket()],
      { columns: 200, rows: 10 },
      { NO_COLOR: '1' },
    );
    await plain.ended();
    expect(plain.screen).not.toContain('\u001b');
  });
});

it('status of a daemon that starts has exit code 1, and says which configuration it has', async () => {
  await using folder = new RunFolder();
  folder.configure();
  // A lock of its own: others on this machine may run the same.
  const env = { XEN_BLOCKD_TEST_XENSTORED: 'silent', XENSTORED_PATH: folder.path('xenstored') };
  const daemon = folder.run([], { env });
  await expect.poll(async () => (await runBlockd('status', '--socket', folder.control)).code).toBe(1);
  const { stdout } = await runBlockd('status', '--socket', folder.control);
  expect(stdout).toContain(`configuration  ${folder.config}`);
  expect(stdout).toMatch(/^ {2}wrong now +1\n {4}it is starting$/m);
  daemon.signal('SIGKILL');
});
