import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LOGGED_CHANNELS } from '../../daemon/event-log.js';
import { packageRoot } from '../../package-root.js';
import { decodeEntry, JournalSocket } from '../../testing/journal-socket.js';
import { filesBelow } from '../../testing/sources.js';
import { LimitedLog } from '../limited-log.js';
import { createLogger, type ProcessLog } from '../logger.js';
import { encodeEntry } from './entry.js';
import { journalFields } from './fields.js';
import { isJournalStream, Journal } from './journal.js';
import { DAEMON_EVENTS, DISK_EVENTS, logEvent, REQUEST_EVENTS, STORAGE_EVENTS } from './log-events.js';

vi.setConfig({ testTimeout: 60_000 });

const SOON = { timeout: 20_000 };
const EVENTS = { ...DISK_EVENTS, ...REQUEST_EVENTS, ...STORAGE_EVENTS, ...DAEMON_EVENTS };

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'journal-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('the standard error of a unit', () => {
  it('is the journal where JOURNAL_STREAM has its device and inode, and nothing else is', () => {
    const path = join(folder, 'file');
    const fd = openSync(path, 'w');
    const { dev, ino } = statSync(path, { bigint: true });
    expect(isJournalStream(fd, `${dev}:${ino}`)).toBe(true);
    for (const other of [`${dev}:${ino + 1n}`, `${dev}:`, `${ino}`, 'nonsense', '']) {
      expect(isJournalStream(fd, other), other).toBe(false);
    }
    expect(isJournalStream(fd, undefined)).toBe(false);
    closeSync(fd);
    expect(isJournalStream(fd, `${dev}:${ino}`)).toBe(false);
  });
});

describe("an entry of the journal's", () => {
  it('has a line for each field, and the length of a value of several lines', () => {
    const entry = encodeEntry([
      ['MESSAGE', 'ä=1'],
      ['STACK', 'a\nbc'],
      ['PRIORITY', '3'],
    ]);
    const text = 'MESSAGE=ä=1\nSTACK\n\u0004\0\0\0\0\0\0\0a\nbc\nPRIORITY=3\n';
    expect(entry.equals(Buffer.from(text))).toBe(true);
    expect(decodeEntry(entry)).toEqual({ MESSAGE: 'ä=1', STACK: 'a\nbc', PRIORITY: '3' });
  });

  it('has what can be looked for', () => {
    const fields = {
      device: 'qdisk-5-51712',
      guest: 'web1',
      errno: 'ENOSPC',
      inFlight: 3,
      event: 'xen-block:storage:error',
    };
    expect(Object.fromEntries(journalFields({ level: 50, msg: 'storage error', ...fields }))).toEqual({
      MESSAGE: 'storage error device=qdisk-5-51712 guest=web1 errno=ENOSPC inFlight=3',
      PRIORITY: '3',
      MESSAGE_ID: STORAGE_EVENTS['xen-block:storage:error'].id,
      SYSLOG_IDENTIFIER: 'xen-blockd',
      SYSLOG_FACILITY: '3',
      DEVICE: 'qdisk-5-51712',
      GUEST: 'web1',
      ERRNO: '28',
      XEN_BLOCKD_EVENT: 'xen-block:storage:error',
      XEN_BLOCKD_ERRNO: 'ENOSPC',
      XEN_BLOCKD_IN_FLIGHT: '3',
    });
  });

  it('keeps the lines of a stack, and no other value has any', () => {
    const hostile = 'web\nPRIORITY=0\nMESSAGE\u2028x\u001b[31m';
    const record = {
      level: 60,
      msg: `unexpected: ${hostile}`,
      guest: hostile,
      reason: hostile,
      stack: 'Error\n at \u001b[1mb',
    };
    const entry = decodeEntry(encodeEntry(journalFields(record)));
    expect(entry.XEN_BLOCKD_STACK).toBe('Error\n at \\u001b[1mb');
    expect(entry).toMatchObject({ PRIORITY: '2', MESSAGE_ID: DAEMON_EVENTS.unexpected.id });
    const others = Object.entries(entry).filter(([name]) => name !== 'XEN_BLOCKD_STACK');
    expect(others.filter(([, value]) => /[\u0000-\u001f\u2028]/.test(value))).toEqual([]);
  });

  it.each(['a b', 'ä', '_x', '1', 'x'.repeat(100), 'a=b', 'a\nb', 'camelCase'])(
    'has only names that the journal takes: of %j',
    (key) => {
      for (const [name] of journalFields({ level: 30, [key]: 1 })) expect(name).toMatch(/^[A-Z][A-Z0-9_]{0,63}$/);
    },
  );
});

describe('the kinds of lines', () => {
  it('have each an id of their own', () => {
    const ids = Object.values(EVENTS).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  });

  it('are all that the daemon says', () => {
    expect(LOGGED_CHANNELS.filter((event) => logEvent({ event }) === undefined)).toEqual([]);
    const said = sources().flatMap(([path, text]) => messagesOf(text).map((message) => ({ path, message })));
    expect(said.length).toBeGreaterThan(20);
    expect(said.filter(({ message }) => logEvent({ msg: message }) === undefined)).toEqual([]);
  });
});

/** The daemon's own files. */
function sources(): [path: string, text: string][] {
  const files = ['daemon', 'images', 'log', 'cli'].flatMap((name) => filesBelow(new URL(`src/${name}/`, packageRoot)));
  return files.filter((path) => /(?<!\.test)\.ts$/.test(path)).map((path) => [path, readFileSync(path, 'utf8')]);
}

/** What a file says to the log: words at the end of a call, or a message in a table of those of the storage helper. */
function messagesOf(text: string): string[] {
  const calls = text.matchAll(/logger\.(?:debug|info|warn|error|fatal)\(\s*(?:\{[^}]*\},\s*)?['"`]([^'"`$]{4,})/g);
  const helper = text.matchAll(/: '(qemu-storage-daemon [^']+)',$/gm);
  const told = text.matchAll(/message: '(no NBD export[^']+)'/g);
  return [...calls, ...helper, ...told].map(([, message]) => message);
}

needs(working('the addon of xen-sys', requireNativeAddon), 'python3').describe("the journal's socket", () => {
  let socket: string;
  let written: string[];
  let hasRoom: boolean;
  let log: ProcessLog;

  beforeEach(() => {
    socket = join(folder, 'socket');
    written = [];
    hasRoom = true;
    const write = (bytes: Buffer) => {
      if (!hasRoom) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      written.push(bytes.toString());
      return bytes.length;
    };
    log = createLogger('debug', 'journal', { write, journal: new Journal(socket) });
  });
  afterEach(() => log.sink[Symbol.dispose]());

  it('gets the lines, each with its fields', async () => {
    await using receiver = await JournalSocket.bind(socket);
    receiver.read();
    using limited = new LimitedLog(log.logger, { guestOf: (device) => `guest of ${device}` });
    limited.write('xen-block:device:connected', 'vbd-5-51712', {
      level: 'info',
      message: 'serving',
      fields: { device: 'vbd-5-51712', queues: 2 },
    });
    log.logger.warn({ path: '/a' }, 'journal-directory: requests in flight may be lost if this process is killed');
    await expect.poll(() => receiver.entries, SOON).toHaveLength(2);
    expect(receiver.entries).toMatchObject([
      {
        DEVICE: 'vbd-5-51712',
        GUEST: 'guest of vbd-5-51712',
        PRIORITY: '6',
        MESSAGE_ID: DISK_EVENTS['xen-block:device:connected'].id,
        XEN_BLOCKD_QUEUES: '2',
      },
      { PRIORITY: '4', MESSAGE_ID: DAEMON_EVENTS['journal-directory'].id, XEN_BLOCKD_PATH: '/a' },
    ]);
    expect(written).toEqual([]);
  });

  it('that is away leaves the lines to standard error, and gets them again when it is back', async () => {
    log.logger.error({ device: 'vbd-5-51712' }, 'one');
    expect(written).toEqual(['<3>one device=vbd-5-51712\n']);
    await using receiver = await JournalSocket.bind(socket);
    receiver.read();
    log.logger.info('two');
    await expect.poll(() => receiver.entries, SOON).toMatchObject([{ MESSAGE: 'two' }]);
    expect(written).toHaveLength(1);
    expect(log.sink.lost).toBe(0);
  });

  it('that has no room is not waited for, and each line is in one place', async () => {
    await using receiver = await JournalSocket.bind(socket);
    let lines = 0;
    while (written.length < 3 && lines < 100_000) log.logger.info(`line ${lines++};`);
    expect(written).toEqual([3, 2, 1].map((back) => `<6>line ${lines - back};\n`));
    receiver.read();
    await expect.poll(() => receiver.entries.length, SOON).toBe(lines - 3);
    log.logger.info('again');
    await expect.poll(() => receiver.entries.at(-1), SOON).toMatchObject({ MESSAGE: 'again' });
    expect(log.sink.lost).toBe(0);
  });

  it('does not take a line that is too long, which standard error gets', async () => {
    await using receiver = await JournalSocket.bind(socket);
    receiver.read();
    log.logger.info({ reason: 'x'.repeat(8 << 20) }, 'long');
    log.logger.info('short');
    await expect.poll(() => receiver.entries, SOON).toMatchObject([{ MESSAGE: 'short' }]);
    expect(written.map((line) => line.slice(0, 10))).toEqual(['<6>long re']);
  });

  it('and standard error away: lines are counted', () => {
    hasRoom = false;
    log.logger.info('one');
    log.logger.info('two');
    expect(log.sink.lost).toBe(2);
    hasRoom = true;
    log.logger.info('three');
    expect(written).toEqual(['<4>lines of this log were lost lines=2 reason=ENOSPC\n', '<6>three\n']);
  });
});
