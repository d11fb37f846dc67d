import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { BlockdProcess, PROGRAM } from '../../testing/process.js';
import { TerminalBlockd } from '../../testing/terminal.js';

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const watch = () => ['stats', '--watch', '0.1', '--socket', daemon.host.path('control')];
const ended = (process: BlockdProcess) => {
  process.signal('SIGTERM');
  return process.ended;
};

describe('stats --watch', () => {
  it('prints what is done between two looks', async () => {
    const { domid } = await daemon.attach('web1');
    const guest = await daemon.host.connectGuest(domid);
    const watcher = new BlockdProcess(watch());
    try {
      await expect.poll(() => watcher.stdout).toMatch(/ web1 +connected +- +- +- +- +- +0\n/);
      await expect
        .poll(async () => {
          await guest.read(0, 65_536);
          return watcher.stdout;
        })
        .toMatch(/ web1 +connected +[1-9][\d.]* +\d+\.\d +0 +0\.0 +[\d.]+ [mu]?s +\d\n/);
      await expect.poll(() => watcher.stdout).toMatch(/ connected +0 +0\.0 +0 +0\.0 +- +0\n/);
      expect(watcher.stdout).not.toContain('\u001b');
    } finally {
      await ended(watcher);
    }
  });

  it('shows that the daemon has gone, and goes on when it is back', async () => {
    await daemon.attach('web1');
    const watcher = new BlockdProcess(watch());
    try {
      await expect.poll(() => watcher.stdout).toContain('web1');
      daemon.stop();
      await daemon.ended();
      await expect.poll(() => watcher.stdout).toContain('no daemon answers there');
      daemon.start();
      const length = watcher.stdout.length;
      await expect.poll(() => watcher.stdout.slice(length)).toMatch(/ web1 +waiting/);
      expect(watcher.stderr).toBe('');
    } finally {
      await ended(watcher);
    }
  });

  it('prints an object a line as JSON', async () => {
    await daemon.attach('web1');
    const watcher = new BlockdProcess([...watch(), '--json']);
    try {
      await expect.poll(() => watcher.stdout.split('\n').length).toBeGreaterThan(2);
      const [first, second] = watcher.stdout.split('\n');
      expect(JSON.parse(first).disks).toMatchObject([{ guest: 'web1', state: 'waiting', inFlight: 0 }]);
      expect(JSON.parse(second).disks).toMatchObject([{ guest: 'web1', iops: 0, readBandwidth: 0 }]);
    } finally {
      await ended(watcher);
    }
  });

  it('ends with its reader', async () => {
    const child = spawn(process.execPath, [PROGRAM, ...watch()]);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
    expect([said, code]).toEqual(['', 0]);
  });

  needs('Linux').it('ends when nothing can be written', async () => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [PROGRAM, ...watch()], { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    const [said, [code]] = await Promise.all([text(child.stderr as NodeJS.ReadableStream), once(child, 'close')]);
    expect(said).toMatch(/standard output: .*ENOSPC/);
    expect(code).toBe(1);
  });

  needs('script').it('draws each look over the one before on a terminal, in 30 columns', async () => {
    for (const name of ['web1', 'web2', 'web3', 'web4']) await daemon.attach(name);
    await using terminal = await TerminalBlockd.start(watch(), { columns: 30, rows: 4 });
    await terminal.until((output) => output.split('\u001b[H').length > 3);
    const lines = terminal.lines.filter(Boolean);
    expect(lines.length).toBeLessThanOrEqual(3);
    for (const line of lines) expect([...line].length).toBeLessThanOrEqual(30);
    terminal.signal('SIGINT');
    expect((await terminal.ended()).restored).toBe(true);
  });
});
