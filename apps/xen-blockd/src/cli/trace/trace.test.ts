import { readFileSync, writeFileSync } from 'node:fs';
import { QmpClient } from '@xenpv/qmp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { BlockdProcess, runBlockd } from '../../testing/process.js';

let daemon: TestDaemon;
let processes: BlockdProcess[];

beforeEach(async () => {
  processes = [];
  daemon = await TestDaemon.create();
});
afterEach(async () => {
  for (const { child } of processes) child.kill('SIGKILL');
  await daemon[Symbol.asyncDispose]();
});

async function start(config = {}): Promise<{ domid: number }> {
  daemon.start(config);
  await daemon.says('ready');
  return daemon.attach('web1');
}

/** `xen-blockd trace` in a process of its own, when it has begun to trace. */
async function tracing(...args: string[]): Promise<BlockdProcess> {
  const socket = daemon.host.path('control');
  const traced = new BlockdProcess(['trace', 'web1:xvda', '--socket', socket, ...args]);
  processes.push(traced);
  await traced.says('Ctrl-C ends it');
  return traced;
}

/** By what a ninth trace is refused with. */
async function countTraces(): Promise<number> {
  await using client = await QmpClient.connect(daemon.host.path('control'));
  for (let begun = 0; ; begun++) {
    try {
      await client.execute('x-trace-start', { disk: 'web1:xvda' });
    } catch (error) {
      expect((error as Error).message).toBe('there are 8 traces already; end one first');
      return 8 - begun;
    }
  }
}

const jsonOf = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('trace', () => {
  it('shows each request at its four points, on a thread of its own, over a reconnection and until the disk is gone', async () => {
    const { domid } = await start({ threads: 1 });
    const guest = await daemon.host.connectGuest(domid);
    const [text, json] = [await tracing(), await tracing('--json')];
    await guest.read(4096, 8192);
    await guest.close();
    const again = await daemon.host.connectGuest(domid);
    await again.write(0, new Uint8Array(512));
    await again.flush();
    await again.close();
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    const shown = await text.ended;
    expect(shown.code).toBe(0);
    expect(shown.stderr).toMatch(/^xen-blockd: trace: 12 lines, 0 lost; it ended: qdisk-\d+-51712 is served no more$/m);
    const fields = '\\d\\d:\\d\\d:\\d\\d\\.\\d{6} +0 +0';
    expect(shown.stdout).toMatch(new RegExp(`^${fields} taken +[0-9a-f]+ +read +8 \\+ 16 +- +ok$`, 'm'));
    expect(shown.stdout).toMatch(new RegExp(`^${fields} pushed +[0-9a-f]+ +read +8 \\+ 16 +[0-9.]+ [um]?s +ok$`, 'm'));
    const lines = jsonOf((await json.ended).stdout);
    expect(
      lines.map(({ point, op, sector, sectors, request, status }) =>
        [point, op, sector, sectors, request, status].join(' '),
      ),
    ).toEqual([
      ...['taken', 'storage', 'done', 'pushed'].map((point) => `${point} read 8 16 0 ok`),
      ...['taken', 'storage', 'done', 'pushed'].map((point) => `${point} write 0 1 1 ok`),
      ...['taken', 'storage', 'done', 'pushed'].map((point) => `${point} flush 0 0 2 ok`),
    ]);
    for (const { time, latency, point } of lines) {
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      expect(latency === undefined).toBe(point === 'taken');
    }
  });

  it('is ended by its limits, by Ctrl-C, by its reader and by the end of the daemon, and nothing of it stays', async () => {
    const { domid } = await start();
    const guest = await daemon.host.connectGuest(domid);
    const limited = await tracing('--limit', '3');
    const slow = await tracing('--min-latency', '60000', '--op', 'read');
    const unread = await tracing('--json');
    expect(await countTraces()).toBe(3);
    unread.child.stdout?.destroy();
    await guest.read(0, 4096);
    await guest.read(0, 4096);
    const { stdout, stderr } = await limited.ended;
    expect(stdout.trim().split('\n')).toHaveLength(4);
    expect(stderr).toContain('3 lines, 0 lost; it ended: as many lines as were asked for');
    expect((await unread.ended).code).toBe(0);
    slow.child.kill('SIGINT');
    expect(await slow.ended).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('0 lines, 0 lost; it ended: interrupted'),
    });
    await expect.poll(() => countTraces()).toBe(0);
    const left = await tracing();
    daemon.stop();
    const last = await left.ended;
    // It may hear of the disk's end, or not before the connection ends too.
    const why =
      last.code === 0 ? /it ended: .* is served no more$/m : /it ended: .* the daemon closed the connection$/m;
    expect(last.stderr).toMatch(why);
    expect([0, 1]).toContain(last.code);
    await guest.close();
  });

  it('there are never more than eight, also where all begin at once', async () => {
    const { domid } = await start({ threads: 1 });
    // The thread of its ring is asked.
    const guest = await daemon.host.connectGuest(domid);
    const begin = async () => {
      const client = await QmpClient.connect(daemon.host.path('control'));
      const begun = client.execute('x-trace-start', { disk: 'web1:xvda' });
      return {
        client,
        begun: await begun.then(
          () => true,
          () => false,
        ),
      };
    };
    const clients = await Promise.all(Array.from({ length: 12 }, begin));
    expect(clients.filter(({ begun }) => begun)).toHaveLength(8);
    for (const { client } of clients) client.close();
    await expect.poll(() => countTraces()).toBe(0);
    await guest.close();
  });

  it('says what is wrong', async () => {
    await start();
    const socket = ['--socket', daemon.host.path('control')];
    writeFileSync(daemon.host.path('there'), 'mine');
    const [unknown, operation, there] = await Promise.all([
      runBlockd('trace', 'web2:xvda', ...socket),
      runBlockd('trace', 'web1:xvda', '--op', 'erase', ...socket),
      runBlockd('trace', 'web1:xvda', '--write', daemon.host.path('there'), ...socket),
    ]);
    expect([unknown.code, unknown.stderr]).toEqual([
      1,
      expect.stringContaining('there is no disk web2:xvda; the disks are qdisk-'),
    ]);
    expect([operation.code, operation.stderr]).toEqual([
      2,
      expect.stringContaining('read, write, barrier, flush, discard'),
    ]);
    expect([there.code, there.stderr]).toEqual([
      1,
      expect.stringMatching(/trace file .*there: it is there already; name a new file\n$/),
    ]);
    expect(readFileSync(daemon.host.path('there'), 'utf8')).toBe('mine');
    await using client = await QmpClient.connect(daemon.host.path('control'));
    await expect(client.execute('x-trace-read', { trace: 1 })).rejects.toThrow(
      'this connection has no trace 1; begin one',
    );
    const { trace } = (await client.execute('x-trace-start', { disk: 'web1:xvda' })) as { trace: number };
    await using other = await QmpClient.connect(daemon.host.path('control'));
    await expect(other.execute('x-trace-stop', { trace })).rejects.toThrow('has no trace');
  });
});

describe('trace replay', () => {
  /** A trace of two reads, a write and a flush. */
  async function written(): Promise<string> {
    const { domid } = await start();
    const guest = await daemon.host.connectGuest(domid);
    const path = daemon.host.path('a.trace');
    const traced = await tracing('--write', path);
    await guest.read(4096, 8192);
    await guest.write(512, new Uint8Array(1024));
    await guest.flush();
    await guest.read(0, 512);
    await guest.close();
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    expect((await traced.ended).code).toBe(0);
    return path;
  }

  it('does what the storage was given, and writes only where it is told to', async () => {
    const path = await written();
    const image = daemon.host.path('copy');
    const before = Buffer.alloc(2 * 1024 * 1024, 1);
    writeFileSync(image, before);
    const refused = await runBlockd('trace', 'replay', path, image);
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringContaining('the trace has 1 writes, 0 discards and 1 flushes: --reads-only'),
    ]);
    const reads = await runBlockd('trace', 'replay', path, image, '--reads-only', '--json');
    expect(JSON.parse(reads.stdout)).toMatchObject({
      operations: 2,
      left: 0,
      lost: 0,
      isWhole: true,
      kinds: { read: { count: 2, bytes: 8704, errors: {} } },
    });
    expect(readFileSync(image).equals(before)).toBe(true);
    const all = await runBlockd('trace', 'replay', path, image, '--overwrite', '--fast');
    expect([all.code, all.stderr]).toEqual([0, '']);
    expect(all.stdout).toMatch(/^ {2}write +1 +1\.0 KiB/m);
    const after = readFileSync(image);
    expect([
      after.subarray(0, 512).equals(before.subarray(0, 512)),
      after.subarray(1536).equals(before.subarray(1536)),
    ]).toEqual([true, true]);
    expect(after.subarray(512, 1536).equals(before.subarray(512, 1536))).toBe(false);
    writeFileSync(image, before.subarray(0, 4096));
    const short = await runBlockd('trace', 'replay', path, image, '--reads-only');
    expect([short.code, short.stderr]).toEqual([
      1,
      expect.stringMatching(/reaches to byte 12288, and .*copy has 4096; replay it on one/),
    ]);
  });

  it.each([
    ['nothing', '', /trace: it is empty/],
    ['another file', 'hello\n', /trace:1: it is no JSON object/],
    ['JSON that is no trace', '{}\n', /trace:1: it is no trace; expected/],
    ['a trace of a later form', '{"xen-blockd-trace":2}\n', /trace:1: a trace of form 2; this version knows form 1/],
    ['a wrong line', '{"xen-blockd-trace":1}\n[1]\n{"ended":"x"}\n', /trace:2: it is no JSON object/],
    [
      'a wrong time',
      '{"xen-blockd-trace":1}\n{"point":"storage","op":"read","time":"now","sector":0,"sectors":1}\n',
      /trace:2: time "now": expected/,
    ],
    [
      'no sectors',
      '{"xen-blockd-trace":1}\n{"point":"storage","op":"read","time":"2026-01-02T03:04:05.678901Z","sector":-1,"sectors":1e99}\n',
      /trace:2: sector -1 \+ 1e\+99: expected/,
    ],
  ])('says where %s is wrong', async (_, text, message) => {
    const path = daemon.host.path('bad.trace');
    writeFileSync(path, text);
    const { readTraceFile } = await import('./replay/trace-file.js');
    await expect(readTraceFile(path)).rejects.toThrow(message);
  });

  it('takes a trace whose writer was killed', async () => {
    const path = daemon.host.path('cut.trace');
    const line = { time: '2026-01-02T03:04:05.678901Z', point: 'storage', op: 'read', sector: 8, sectors: 1 };
    writeFileSync(path, `{"xen-blockd-trace":1}\n${JSON.stringify(line)}\n{"lost":3}\n{"time":"20`);
    const { readTraceFile } = await import('./replay/trace-file.js');
    expect(await readTraceFile(path)).toMatchObject({ operations: { count: 1 }, lost: 3, isWhole: false });
    await expect(readTraceFile(daemon.host.path('none'))).rejects.toThrow(/none: ENOENT/);
  });
});
