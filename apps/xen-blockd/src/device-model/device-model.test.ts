import { existsSync } from 'node:fs';
import { QmpClient } from '@xenpv/qmp';
import type { XenstoreClient } from '@xenpv/xenstore';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import { runBlockd } from '../testing/process.js';
import { readDeviceModelArguments } from './arguments.js';
import { runDeviceModel } from './device-model.js';

/** As libxl 4.17 starts a QEMU for a PV guest; of 4.20 the same but for the name. */
const PV = [
  ...['-xen-domid', '5', '-no-shutdown'],
  ...['-chardev', 'socket,id=libxl-cmd,path=/var/run/xen/qmp-libxl-5,server=on,wait=off'],
  ...['-mon', 'chardev=libxl-cmd,mode=control'],
  ...['-chardev', 'socket,id=libxenstat-cmd,path=/var/run/xen/qmp-libxenstat-5,server=on,wait=off'],
  ...['-mon', 'chardev=libxenstat-cmd,mode=control'],
  ...['-nodefaults', '-no-user-config', '-xen-attach', '-name', 'web1', '-vnc', 'none', '-display', 'none'],
  ...['-machine', 'xenpv', '-m', '512'],
];

describe("libxl's options", () => {
  it('have the guest and its sockets', () => {
    expect(readDeviceModelArguments(PV)).toEqual({
      domid: 5,
      sockets: ['/var/run/xen/qmp-libxl-5', '/var/run/xen/qmp-libxenstat-5'],
    });
  });

  it.each([
    ['none', []],
    ['those of a question what a QEMU can do', ['-S', '-no-user-config', '-machine', 'none', '-qmp', 'stdio']],
    ['a number that is none', ['-xen-domid', 'five']],
    ['a word without its value', ['-xen-domid']],
  ])('%s are refused', (_, words) => {
    expect(() => readDeviceModelArguments(words)).toThrow('expected -xen-domid N');
  });

  it.each([
    ['a comma in a path', 'socket,id=a,path=/run/a,,b,server=on', ['/run/a,b']],
    ['a descriptor', 'socket,id=a,fd=3,server=on', []],
    ['a terminal', 'pty,id=a,path=/dev/x', []],
  ])('%s', (_, chardev, sockets) => {
    expect(readDeviceModelArguments(['-xen-domid', '1', '-chardev', chardev]).sockets).toEqual(sockets);
  });
});

describe('in the place of a QEMU', () => {
  let daemon: TestDaemon;
  let ending: AbortController;
  let ended: Promise<void>;
  let domid: number;

  beforeEach(async () => {
    daemon = await TestDaemon.create();
    void daemon.start();
    await daemon.says('ready');
    ({ domid } = await daemon.attach());
    ending = new AbortController();
    const options = { domid, sockets: ['qmp', 'stat'].map((name) => daemon.host.path(name)), ending: ending.signal };
    const logger = pino({ level: 'silent' });
    ended = runDeviceModel({ ...options, store: daemon.host.store, control: daemon.host.path('control'), logger });
    const state = () => daemon.host.store.tryRead(`/local/domain/0/device-model/${domid}/state`);
    await expect.poll(state).toBe('running');
  });
  afterEach(async () => {
    ending.abort();
    await ended;
    await daemon[Symbol.asyncDispose]();
  });

  it('it says that it runs, and answers what libxl asks on each socket', async () => {
    for (const name of ['qmp', 'stat']) {
      await using client = await QmpClient.connect(daemon.host.path(name));
      expect(client.greeting.QMP.version.qemu.major).toBeGreaterThan(2);
      expect(await client.execute('query-chardev')).toEqual([]);
      expect(await client.execute('query-status')).toMatchObject({ running: true });
      expect(await client.execute('stop')).toEqual({});
      expect(await client.execute('cont')).toEqual({});
    }
  });

  it('it tells of its guest’s disks, and of no others', async () => {
    const other = (await daemon.attach('other')).domid;
    const guest = await daemon.host.connectGuest(domid);
    await daemon.host.connectGuest(other);
    await guest.read(0, 4096);
    await using client = await QmpClient.connect(daemon.host.path('stat'));
    const device = `qdisk-${domid}-51712`;
    expect(await client.execute('query-block')).toMatchObject([{ device }]);
    expect(await client.execute('query-blockstats')).toMatchObject([{ device, stats: { rd_bytes: 4096 } }]);
  });

  it('its figures are of the last seconds while somebody looks again and again', async () => {
    const guest = await daemon.host.connectGuest(domid);
    await using client = await QmpClient.connect(daemon.host.path('stat'));
    const bytesRead = async () => {
      const [disk] = (await client.execute('query-blockstats')) as [{ stats: { rd_bytes: number } }];
      return disk.stats.rd_bytes;
    };
    const before = await bytesRead();
    await guest.read(0, 4096);
    await expect.poll(bytesRead, { timeout: 10_000 }).toBe(before + 4096);
  });

  it('it goes on while the daemon is away', async () => {
    daemon.stop();
    await daemon.ended();
    await using client = await QmpClient.connect(daemon.host.path('qmp'));
    expect(await client.execute('query-block')).toEqual([]);
    expect(await client.execute('query-chardev')).toEqual([]);
  });

  it('it ends when it is asked to before it says that it runs', async () => {
    const socket = daemon.host.path('early');
    const store = {
      async write() {
        await using client = await QmpClient.connect(socket);
        await client.execute('quit');
        // What it does then is done in the next turn.
        await new Promise((resolve) => setTimeout(resolve, 50));
      },
    } as unknown as XenstoreClient;
    const logger = pino({ level: 'silent' });
    const never = new AbortController().signal;
    await runDeviceModel({ domid, sockets: [socket], store, control: '', logger, ending: never });
  });

  it('it ends when it is asked to, and its sockets go', async () => {
    const client = await QmpClient.connect(daemon.host.path('qmp'));
    expect(await client.execute('quit')).toEqual({});
    await ended;
    await client.closed;
    expect(['qmp', 'stat'].filter((name) => existsSync(daemon.host.path(name)))).toEqual([]);
  });
});

it('the command says what it is for, and what is wrong', async () => {
  expect(await runBlockd('device-model', '--help')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('device_model_override="/usr/lib/xen-blockd/device-model"'),
  });
  expect(await runBlockd('device-model', '--', '-machine', 'none')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('expected -xen-domid N'),
  });
});
