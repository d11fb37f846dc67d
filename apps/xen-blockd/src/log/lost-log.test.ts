import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { askDaemon } from '../control/ask-daemon.js';
import { PROGRAM, type RunningBlockd } from '../testing/process.js';
import { RunFolder } from '../testing/run-folder.js';
import { LogSink } from './log-sink.js';

// A program starts, with all that else runs on the machine.
vi.setConfig({ testTimeout: 60_000 });

let folder: RunFolder;
const open: number[] = [];

beforeEach(() => {
  folder = new RunFolder();
  folder.configure(`metrics = "${folder.path('metrics')}"`, 'log-level = "debug"');
});
afterEach(async () => {
  for (const fd of open.splice(0)) closeSync(fd);
  await folder[Symbol.asyncDispose]();
});

function opened(path: string, flags: number): number {
  const fd = openSync(path, flags);
  open.push(fd);
  return fd;
}

function closed(fd: number): void {
  closeSync(fd);
  open.splice(open.indexOf(fd), 1);
}

/** A pipe whose reader is us. */
function pipe(): { reader: number; writer: number } {
  const path = folder.path('pipe');
  execFileSync('mkfifo', [path]);
  const reader = opened(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reader, writer: opened(path, constants.O_WRONLY) };
}

const linesLost = () => folder.metric('log_lines_lost_total');

/** The daemon says nothing that we can read: until its control socket answers. */
async function serves(daemon: RunningBlockd): Promise<number> {
  const asked = () => askDaemon(folder.control, { command: 'x-query-disks' }).catch(() => undefined);
  await expect.poll(asked, { timeout: 20_000 }).toEqual([]);
  return daemon.attach(folder.image);
}

/** Attaches and detaches a disk, which is said in several lines. */
async function talkative(daemon: RunningBlockd): Promise<void> {
  await daemon.inXen(async ({ host }, target) => {
    const { domid } = await host.createDomain({ name: 'talk' });
    await host.toolstack.attachDisk(domid, { vdev: 'xvda', target });
    await host.toolstack.detachDisk(domid, 'xvda');
  }, folder.image);
}

describe('a log that cannot be written', () => {
  it.each(['json', 'text', 'journal'])('on a full disk, as %s, neither ends nor stops serving', async (format) => {
    const full = opened('/dev/full', constants.O_WRONLY);
    const daemon = folder.run(['--log-format', format], { stdout: full, stderr: full });
    const guest = await serves(daemon);
    expect(await daemon.reads(guest)).toBe(true);
    expect(await linesLost()).toBeGreaterThan(1);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('has lost its reader: lines are counted, disks are served', async () => {
    const { reader, writer } = pipe();
    const daemon = folder.run([], { stdout: writer, stderr: writer });
    const guest = await serves(daemon);
    closed(writer);
    closed(reader);
    await talkative(daemon);
    expect(await daemon.reads(guest)).toBe(true);
    expect(await linesLost()).toBeGreaterThan(1);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('has a reader that has stopped: nothing waits, and a line says what was lost when it reads again', async () => {
    const { reader, writer } = pipe();
    const daemon = folder.run([], { stderr: writer });
    const guest = await serves(daemon);
    // Full to the last byte, by lines of our own.
    const filler = opened(folder.path('pipe'), constants.O_WRONLY | constants.O_NONBLOCK);
    expect(() => {
      for (;;) writeSync(filler, 'x'.repeat(64));
    }).toThrow('EAGAIN');
    await talkative(daemon);
    expect(await daemon.reads(guest)).toBe(true);
    const lost = await linesLost();
    expect(lost).toBeGreaterThan(1);
    let seen = '';
    const buffer = Buffer.alloc(65536);
    await expect
      .poll(
        () => {
          try {
            seen += buffer.subarray(0, readSync(reader, buffer)).toString();
          } catch {
            // Nothing there yet.
          }
          return seen;
        },
        { timeout: 20_000 },
      )
      .toContain(`"lines":${lost},"reason":"EAGAIN","msg":"lines of this log were lost"`);
    expect(await daemon.reads(guest)).toBe(true);
  });

  it('is a socket, as systemd connects it, whose other end goes', async () => {
    const daemon = folder.run();
    const guest = await serves(daemon);
    const gone = new Promise((resolve) => daemon.child.stderr?.once('close', resolve));
    daemon.child.stderr?.destroy();
    await gone;
    await talkative(daemon);
    expect(await daemon.reads(guest)).toBe(true);
    expect(await linesLost()).toBeGreaterThan(1);
    daemon.signal('SIGTERM');
    await new Promise((resolve) => daemon.child.once('exit', resolve));
    expect(daemon.child.exitCode).toBe(0);
  });

  it('is a file on a full file system, then one with room again', () => {
    const written: string[] = [];
    let room = true;
    const sink = new LogSink(
      (bytes) => {
        if (!room) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
        written.push(bytes.toString());
        return bytes.length;
      },
      (lines, reason) => `lost ${lines} ${reason}\n`,
    );
    sink.write('a\n');
    room = false;
    sink.write('b\n');
    sink.write('c\n');
    room = true;
    sink.write('d\n');
    expect(written).toEqual(['a\n', 'lost 2 ENOSPC\n', 'd\n']);
    expect(sink.lost).toBe(2);
    sink[Symbol.dispose]();
  });

  it('takes a part of a line: the rest comes before any other line', () => {
    let written = '';
    let room = 0;
    const sink = new LogSink(
      (bytes) => {
        if (room === 0) throw Object.assign(new Error('again'), { code: 'EAGAIN' });
        const taken = Math.min(room, bytes.length);
        room -= taken;
        written += bytes.subarray(0, taken).toString();
        return taken;
      },
      (lines) => `lost ${lines}\n`,
    );
    room = 3;
    sink.write('abcdef\n');
    sink.write('lost\n');
    room = 100;
    sink.write('next\n');
    expect(written).toBe('abcdef\nlost 1\nnext\n');
    sink[Symbol.dispose]();
  });
});

describe('standard output on a full disk', () => {
  it('is an error in words with exit code 1', async () => {
    const full = opened('/dev/full', constants.O_WRONLY);
    const child = spawn(process.execPath, [PROGRAM, '--version'], { stdio: ['ignore', full, 'pipe'] });
    const [said, code] = await Promise.all([
      text(child.stderr as NonNullable<typeof child.stderr>),
      new Promise((resolve) => child.on('exit', resolve)),
    ]);
    expect(said).toMatch(/^xen-blockd: standard output: .*(ENOSPC|no space left).*\n$/);
    expect(code).toBe(1);
  });

  it('and standard error as well: an exit code, no hang', async () => {
    const full = opened('/dev/full', constants.O_WRONLY);
    const child = spawn(process.execPath, [PROGRAM, 'list', '--socket', '/none'], { stdio: ['ignore', full, full] });
    expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(1);
  });
});
