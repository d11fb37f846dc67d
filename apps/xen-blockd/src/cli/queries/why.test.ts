import { channel } from 'node:diagnostics_channel';
import { chmodSync, writeFileSync } from 'node:fs';
import { withoutRoot } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askDaemon } from '../../control/ask-daemon.js';
import type { DiskReport } from '../../status/disks/device-status.js';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

const SETTINGS = { engine: 'threads' } as const;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start(SETTINGS);
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));
const image = (name: string) => daemon.host.path(name);

/** A guest with a disk of this image, whether that is there or not. */
async function attach(path: string, name = 'web1'): Promise<number> {
  const { domid } = await daemon.host.host.createDomain({ name });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path });
  return domid;
}

async function report(disk: string): Promise<DiskReport> {
  const [found] = await askDaemon<DiskReport[]>(image('control'), { command: 'x-query-disks', args: { disk } });
  return found;
}

/** Waits until the guest's disk is refused. */
async function refused(guest: string): Promise<void> {
  const state = async () => (await report(`${guest}:xvda`)).refused;
  await expect.poll(state, { timeout: 15_000, interval: 200 }).toBeDefined();
}

/** The line of `list` about a disk. */
async function listed(device: string): Promise<string | undefined> {
  const { code, stdout } = await blockd('list');
  expect(code).toBe(0);
  return stdout.split('\n').find((line) => line.trim().startsWith(device));
}

describe('a disk whose image is missing', () => {
  it('is refused in list, show and status, which say why, since when, and what to do', async () => {
    const domid = await attach(image('gone'));
    const device = `qdisk-${domid}-51712`;
    await refused('web1');
    expect(await listed(device)).toMatch(/ refused +- +\S+gone does not exist$/);
    const { stdout } = await blockd('show', 'web1:xvda');
    expect(stdout).toMatch(/^ {2}state +refused$/m);
    expect(stdout).toMatch(/^ {2}since +\d{4}-.*Z, for \d+ s$/m);
    expect(stdout).toMatch(/^ {2}why +\S+gone does not exist$/m);
    expect(stdout).toMatch(/^ {2}last error +\d{4}-.*Z, \d+ s ago: \S+gone does not exist$/m);
    expect(stdout).toContain(`mend that, then attach it anew, after: xen-blockd detach ${device}`);
    const status = await blockd('status');
    expect(status.code).toBe(1);
    expect(status.stdout).toMatch(/^ {2}disks +1: 1 refused$/m);
    expect(status.stdout).toMatch(
      new RegExp(`${device} \\(web1:xvda\\) is refused for \\d+ s: .*gone does not exist; .*detach`),
    );
    expect(JSON.parse((await blockd('status', '--json')).stdout).disks).toMatchObject({ refused: 1, waiting: 0 });
    expect(JSON.parse((await blockd('list', '--state', 'refused', '--json')).stdout)).toMatchObject([
      {
        device,
        refused: { since: expect.any(String), code: 'ENOENT', reason: `${image('gone')} does not exist` },
        lastError: { kind: 'xenbus:device:error', count: 1 },
      },
    ]);
  });

  it('is as others are when it was attached anew, as show says', async () => {
    const domid = await attach(image('late'));
    const device = `qdisk-${domid}-51712`;
    await refused('web1');
    expect(await blockd('detach', device)).toMatchObject({ code: 0 });
    expect((await blockd('list')).stdout).toBe('no disks\n');
    writeFileSync(image('late'), Buffer.alloc(65_536));
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: image('late') });
    await daemon.host.connectGuest(domid);
    await expect.poll(() => listed(device)).toMatch(/x86_64, 1 ring .* -$/);
    expect(await report(device)).not.toHaveProperty('lastError');
    expect((await blockd('status')).code).toBe(0);
  });

  it('has its error behind it when the toolstack begins anew by the same name', async () => {
    const domid = await attach(image('late'));
    const device = `qdisk-${domid}-51712`;
    await refused('web1');
    writeFileSync(image('late'), Buffer.alloc(65_536));
    await daemon.host.store.write(`/local/domain/0/backend/qdisk/${domid}/51712/state`, '1');
    await expect.poll(() => listed(device)).toMatch(/not connected .* -$/);
    await daemon.host.connectGuest(domid);
    await expect.poll(() => listed(device)).toMatch(/x86_64, 1 ring .* -$/);
    const { stdout } = await blockd('show', device);
    expect(stdout).not.toMatch(/^ {2}(why|remedy) /m);
    expect(stdout).toMatch(/^ {2}last error +.* ago: .*late does not exist$/m);
    expect((await blockd('status')).code).toBe(0);
  });

  it('is refused by the next process too, and served by one that finds the image', async () => {
    const domid = await attach(image('late'));
    await refused('web1');
    daemon.stop();
    await daemon.ended();
    daemon.start(SETTINGS);
    await daemon.says('ready');
    await refused('web1');
    daemon.stop();
    await daemon.ended();
    writeFileSync(image('late'), Buffer.alloc(65_536));
    daemon.start(SETTINGS);
    await daemon.says('ready');
    await expect.poll(() => listed(`qdisk-${domid}-51712`)).toMatch(/not connected .* -$/);
    await daemon.host.connectGuest(domid);
    await expect.poll(() => listed(`qdisk-${domid}-51712`)).toMatch(/x86_64, 1 ring .* -$/);
  });
});

it('a refused disk whose frontend is Closed is so after a restart too, until its guest comes back', async () => {
  const domid = await attach(image('late'));
  const device = `qdisk-${domid}-51712`;
  await refused('web1');
  // As Linux answers Closing.
  await daemon.host.store.write(`/local/domain/${domid}/device/vbd/51712/state`, '6');
  await expect
    .poll(() => daemon.host.store.read(`/local/domain/0/backend/qdisk/${domid}/51712/state`), { timeout: 5000 })
    .toBe('6');
  daemon.stop();
  await daemon.ended();
  daemon.start(SETTINGS);
  await daemon.says('ready');
  await refused('web1');
  expect(await listed(device)).toMatch(/ refused .*late does not exist$/);
  expect((await blockd('show', 'web1:xvda')).stdout).toMatch(/^ {2}why +\S+late does not exist$/m);
  expect((await blockd('status')).code).toBe(1);
  writeFileSync(image('late'), Buffer.alloc(65_536));
  await daemon.host.store.write(`/local/domain/${domid}/device/vbd/51712/state`, '1');
  await expect.poll(() => listed(device)).toMatch(/not connected .* -$/);
});

it('a disk that its guest has closed is not refused after a restart', async () => {
  const { domid } = await daemon.attach('image');
  const guest = await daemon.host.connectGuest(domid);
  await guest.close();
  await expect.poll(() => listed(`qdisk-${domid}-51712`)).toMatch(/not connected .* -$/);
  daemon.stop();
  await daemon.ended();
  daemon.start(SETTINGS);
  await daemon.says('every disk that was found is served or held');
  await expect.poll(() => listed(`qdisk-${domid}-51712`)).toMatch(/not connected .* -$/);
  expect((await report(`${domid}:xvda`)).refused).toBeUndefined();
});

it('a disk whose image another one has is refused, and show says who has it', async () => {
  const { domid } = await daemon.attach('image');
  await daemon.host.connectGuest(domid);
  const other = await attach(image('image'), 'web2');
  await refused('web2');
  const holder = `xvda of domain ${domid} (backend/qdisk/${domid}/51712)`;
  expect(await listed(`qdisk-${other}-51712`)).toContain(holder);
  expect((await blockd('show', 'web2:xvda')).stdout).toMatch(/^ {2}why +.*xvda of domain/m);
  expect(await listed(`qdisk-${domid}-51712`)).toMatch(/ -$/);
});

it('a disk whose image the daemon may not open is refused', async () => {
  writeFileSync(image('private'), Buffer.alloc(65_536));
  chmodSync(image('private'), 0);
  chmodSync(image(''), 0o755);
  let domid = 0;
  await withoutRoot(async () => {
    domid = await attach(image('private'));
    await expect.poll(() => daemon.lines.some(({ level, device }) => level === 50 && device !== undefined)).toBe(true);
  });
  await refused('web1');
  expect(await listed(`qdisk-${domid}-51712`)).toMatch(/ refused .*private may not be opened: check its permissions/);
});

it('an error while a guest is connected is told by show, and list and status do not call it refused', async () => {
  daemon.stop();
  await daemon.ended();
  // Its rings cannot have their journals there.
  writeFileSync(image('journals'), '');
  daemon.start({ ...SETTINGS, 'journal-directory': image('journals') });
  await daemon.says('ready');
  const { domid } = await daemon.attach('image');
  const guest = await daemon.host.connectGuest(domid);
  const device = `qdisk-${domid}-51712`;
  expect((await report(device)).lastError).toMatchObject({ kind: 'xen-block:journal:failed' });
  expect(await listed(device)).toMatch(/x86_64, 1 ring .* -$/);
  const failure = { operation: 'read', errno: 'EIO', offset: 1_048_576, length: 4096, count: 1 };
  channel('xen-block:storage:error').publish({ address: { type: 'qdisk', domid, devid: 51712 }, ...failure });
  const { stdout } = await blockd('show', device);
  expect(stdout).toMatch(/^ {2}state +connected$/m);
  expect(stdout).toMatch(/^ {2}last error +.* ago(, \d+ times)?: .* not noted: /m);
  expect(stdout).toMatch(/^ {2}the last one +EIO on read of 4096 bytes at 1048576, \d{4}-.*Z, \d+ s ago$/m);
  expect((await blockd('status')).code).toBe(0);
  await guest.close();
  await expect.poll(() => listed(device)).toMatch(/not connected .* -$/);
});
