import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { Blkfront } from '@xenpv/blkfront';
import { memoryImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import { XenBlockBackend } from '@xenpv/xen-block';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';

const PROGRAM = new URL('../dist/main.js', import.meta.url).pathname;

let folder: string;
let host: EmulatedHost;

/** A host whose xenstored listens where that of a host in a folder does. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'disk-lister-'));
  host = await EmulatedHost.create();
  await host.xenstored.listen(join(folder, 'xenstored.sock'));
});

afterEach(async () => {
  await host.close();
  await rm(folder, { recursive: true });
});

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function run(...args: string[]) {
  const child = start(...args);
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'close')]);
  return { code, stdout, stderr };
}

it('lists the disks of all guests, of whichever backend, as a table and as JSON', async () => {
  const [web, storage] = [
    await host.createDomain({ name: 'web' }),
    await host.createDomain({ name: 'storage', driverDomain: true }),
  ];
  const disk = { vdev: 'xvda', target: '/images/a.qcow2', format: 'qcow2' } as const;
  await host.toolstack.attachDisk(web.domid, { ...disk, backendDomid: storage.domid });
  await host.toolstack.attachDisk(web.domid, { vdev: 'hdc', target: '', deviceType: 'cdrom', readOnly: true });
  const { code, stdout, stderr } = await run('--emulator', folder);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n')).toEqual([
    'GUEST            DOMID VDEV   BACKEND  STATE        SIZE       MODE TARGET',
    'web              1     hdc    qdisk    Initialising -          r    -',
    'web              1     xvda   qdisk@2  Initialising -          w    /images/a.qcow2',
    '',
  ]);
  expect(JSON.parse((await run('--emulator', folder, '--json')).stdout)[1]).toEqual({
    ...{ guest: 'web', domid: 1, vdev: 'xvda', backendDomid: 2, backendType: 'qdisk', state: 'Initialising' },
    ...{ size: null, mode: 'w', format: 'qcow2', target: '/images/a.qcow2' },
  });
});

it('follows a disk from its attachment to its end, until a signal', async () => {
  await using store = XenstoreClient.open(host.xenstored.connect(0));
  const openImage = async () => memoryImage({ size: 3 * 1024 * 1024 });
  await using _backend = await XenBlockBackend.start({
    ...{ provider: host.provider(), store, types: ['qdisk'], openImage },
  });
  const guest = await host.createDomain({ name: 'web' });
  await using guestStore = XenstoreClient.open(host.xenstored.connect(guest.domid));

  const child = start('--emulator', folder, '--watch', '--json');
  const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const until = async (wanted: object) => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`ended before ${JSON.stringify(wanted)}`);
      const told = JSON.parse(value);
      if (Object.entries(wanted).every(([key, value]) => told[key] === value)) return told;
    }
  };
  await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: 'memory' });
  await until({ change: 'added', guest: 'web', vdev: 'xvda' });
  const disk = await Blkfront.connect({ provider: guest.provider, store: guestStore, vdev: 'xvda' });
  await until({ change: 'changed', state: 'Connected', size: 3 * 1024 * 1024 });
  await disk.close();
  await host.toolstack.detachDisk(guest.domid, 'xvda');
  await until({ change: 'removed', vdev: 'xvda' });
  child.kill('SIGTERM');
  expect(await once(child, 'close')).toEqual([143, null]);
});

it('goes on after the connection to xenstored was lost, and says so', async () => {
  const guest = await host.createDomain({ name: 'web' });
  await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/a.img' });
  const child = start('--emulator', folder, '--watch');
  const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const errors = text(child.stderr!);
  await lines.next();
  expect((await lines.next()).value).toMatch(/^\+ web .* xvda /);
  host.faults.cutXenstore({ domid: 0 }).end();
  await host.toolstack.attachDisk(guest.domid, { vdev: 'xvdb', target: '/b.img' });
  expect((await lines.next()).value).toMatch(/^\+ web .* xvdb /);
  child.kill('SIGINT');
  expect(await once(child, 'close')).toEqual([130, null]);
  expect(await errors).toContain('the connection to xenstored is lost');
});

it('lets no control character of a driver domain through to the terminal', async () => {
  const guest = await host.createDomain({ name: 'web' });
  await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/a', backendKeys: { dev: '\u001b[2Jxvda' } });
  const { stdout } = await run('--emulator', folder);
  expect(stdout).toContain('\\u001b[2Jxvda');
});

it.each([
  ['help', ['--help'], 0, /^$/],
  ['an option that it does not know', ['--jsn'], 2, /^disk-lister: .*--jsn.*\nTry disk-lister --help\.\n$/],
  [
    'a folder without a host',
    ['--emulator', '/nowhere'],
    1,
    /^disk-lister: xenstore connect \/nowhere\/xenstored\.sock: ERR_NO_XENSTORED.*\n$/,
  ],
])('ends with a status when given %s', async (_what, args, code, stderr) => {
  expect(await run(...args)).toMatchObject({ code, stderr: expect.stringMatching(stderr) });
});
