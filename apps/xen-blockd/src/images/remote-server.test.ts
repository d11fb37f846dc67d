import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { makeCertificates } from '@xenpv/test-support/certificates';
import { freePort } from '@xenpv/test-support/ports';
import { afterEach, beforeEach, expect } from 'vitest';
import type { Config } from '../daemon/config.js';
import { TestDaemon } from '../testing/daemon.js';
import { NbdExport } from '../testing/nbd-export.js';

const MIB = 1 << 20;
const SOON = { timeout: 30_000, interval: 20 };
const qemu = needs('qemu-storage-daemon', 'Linux');

let daemon: TestDaemon;
let server: NbdExport | undefined;
let port: number;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  writeFileSync(daemon.host.path('image'), '');
  truncateSync(daemon.host.path('image'), 4 * MIB);
  port = await freePort();
});
afterEach(async () => {
  await daemon[Symbol.asyncDispose]();
  await killServer();
});

/** `certificates`: by TLS, with those of a folder. */
async function startServer(certificates?: string): Promise<void> {
  server = await NbdExport.start({ place: port, image: daemon.host.path('image'), name: 'web 1', certificates });
}

const killServer = async () => server?.kill();

async function attach(
  config: Partial<Config>,
  scheme = 'nbd',
): Promise<{ domid: number; error: () => Promise<string | undefined> }> {
  void daemon.start(config);
  await daemon.says('ready');
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  const target = `${scheme}://127.0.0.1:${port}/web%201`;
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target });
  const error = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
  return { domid, error };
}

qemu.it.each([0, 1])(
  'a disk of a server on the network waits for it to come back, with %s threads',
  async (threads) => {
    await startServer();
    const { domid } = await attach({ threads, 'nbd-hosts': ['127.0.0.1'] });
    const guest = await daemon.host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await killServer();
    const reading = guest.read(0, MIB);
    await daemon.says('lost the NBD server');
    await startServer();
    expect(Buffer.from(await reading).equals(data)).toBe(true);
    await guest.flush();
    expect(readFileSync(daemon.host.path('image')).subarray(0, MIB).equals(data)).toBe(true);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  },
);

needs('qemu-storage-daemon', 'openssl', 'Linux').it(
  'a disk of a server by TLS, which asks for a certificate',
  async () => {
    const folder = daemon.host.path('tls');
    mkdirSync(folder);
    makeCertificates(folder, { serverNames: 'IP:127.0.0.1' });
    await startServer(folder);
    const { domid, error } = await attach({ threads: 1, 'nbd-tls': folder }, 'nbds');
    const guest = await daemon.host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(0, data);
    await killServer();
    const reading = guest.read(0, MIB);
    await startServer(folder);
    expect(Buffer.from(await reading).equals(data)).toBe(true);
    expect(await error()).toBeUndefined();
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  },
);

needs('qemu-storage-daemon', 'openssl', 'Linux').it('a server that nobody vouches for is told of', async () => {
  const folder = daemon.host.path('tls');
  mkdirSync(folder);
  makeCertificates(folder, { serverNames: 'IP:127.0.0.1' });
  await startServer(folder);
  const { error } = await attach({}, 'nbds');
  await expect.poll(error, SOON).toMatch(/cannot be used: TLS: .*certificate/);
});

qemu.it('a server that is not there is told of', async () => {
  const { error } = await attach({});
  await expect.poll(error, SOON).toContain(`127.0.0.1:${port} cannot be opened (ECONNREFUSED)`);
});

qemu.it('a host that the configuration does not name is refused', async () => {
  await startServer();
  const { error } = await attach({ 'nbd-hosts': ['storage1'] });
  await expect.poll(error, SOON).toContain('the server 127.0.0.1 is none of nbd-hosts (storage1)');
});

qemu.it('where images have their directories, servers have to be named too', async () => {
  await startServer();
  const { error } = await attach({ 'image-directories': [daemon.host.directory] });
  await expect.poll(error, SOON).toContain('is not allowed: image-directories is set, and nbd-hosts is not');
});
