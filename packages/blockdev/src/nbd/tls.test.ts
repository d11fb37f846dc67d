import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { clientOf, makeCertificates } from '@xenpv/test-support/certificates';
import { freePort, isListenedOn } from '@xenpv/test-support/ports';
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest';
import { attachImage } from '../attach.js';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import type { NbdTls } from './address.js';
import { openNbdImage } from './image.js';

const MIB = 1 << 20;
const SOON = { timeout: 30_000, interval: 20 };
const qemu = needs('qemu-storage-daemon', 'openssl', 'Linux');
const folder = mkdtempSync(join(tmpdir(), 'blockdev-tls-'));
const file = join(folder, 'image');

beforeAll(() => {
  if (qemu.missing.length > 0) return;
  writeFileSync(file, '');
  truncateSync(file, MIB);
  for (const [name, serverNames] of [
    ['ours', 'IP:127.0.0.1'],
    ['another', 'IP:127.0.0.1'],
    ['elsewhere', 'IP:127.0.0.9'],
  ]) {
    mkdirSync(join(folder, name));
    makeCertificates(join(folder, name), { serverNames });
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** QEMU's server, which asks clients for a certificate too. */
async function serve(certificates: string, given?: number): Promise<{ port: number; server: ChildProcess }> {
  const port = given ?? (await freePort());
  const tls = `tls-creds-x509,id=tls,dir=${join(folder, certificates)},endpoint=server,verify-peer=on`;
  const server = spawn('qemu-storage-daemon', [
    ...['--object', tls, '--blockdev', `driver=file,node-name=disk,filename=${file},locking=off`],
    ...['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${port},tls-creds=tls,max-connections=0`],
    ...['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'],
  ]);
  onTestFinished(() => void server.kill('SIGKILL'));
  await expect.poll(() => isListenedOn(port), SOON).toBe(true);
  return { port, server };
}

function open(port: number, tls: NbdTls | undefined): Promise<BlockImage> {
  return openNbdImage({ host: '127.0.0.1', port, tls }, { exportName: 'disk', negotiation: 5000 });
}

async function opened(port: number, tls: NbdTls | undefined): Promise<BlockImage> {
  const image = await open(port, tls);
  onTestFinished(() => image.close());
  return image;
}

function drive(image: BlockImage): QueueDriver {
  return new QueueDriver(image.createQueue({ depth: 8, memory: allocateMemory(512 << 10) }));
}

qemu.it('what is written and read goes through TLS, also from another thread and after the server died', async () => {
  const { port, server } = await serve('ours');
  const image = await opened(port, clientOf(join(folder, 'ours')));
  const other = (await attachImage(structuredClone(image.share()?.data))) as BlockImage;
  onTestFinished(() => other.close());
  const [one, two] = [drive(image), drive(other)];
  new Uint8Array(one.queue.memory).fill(5);
  expect(await one.run(BlockOp.write, 0, 512 << 10)).toBe(512 << 10);
  expect(await two.run(BlockOp.read, 0, 512 << 10)).toBe(512 << 10);
  expect(new Uint8Array(two.queue.memory).every((byte) => byte === 5)).toBe(true);
  expect(image.description).toBe(`nbds://127.0.0.1:${port}/disk`);
  server.kill('SIGKILL');
  await once(server, 'exit');
  const write = one.run(BlockOp.write, 512 << 10, 4096);
  await serve('ours', port);
  expect(await write).toBe(4096);
  expect(await one.run(BlockOp.flush, 0, 0)).toBe(0);
  expect(
    readFileSync(file)
      .subarray(0, (512 << 10) + 4096)
      .every((byte) => byte === 5),
  ).toBe(true);
});

qemu.it.each<[what: string, certificates: string, tls: (folder: string) => NbdTls | undefined, error: RegExp]>([
  ['of an authority that is not known', 'another', () => clientOf(join(folder, 'ours')), /TLS: .*certificate/i],
  ['that is of another host', 'elsewhere', () => clientOf(join(folder, 'elsewhere')), /TLS: .*127\.0\.0\.1/],
  ['that asks for TLS', 'ours', () => undefined, /refuses the export/],
])('a server %s is not talked to', async (_what, certificates, tls, error) => {
  const { port } = await serve(certificates);
  await expect(open(port, tls(folder))).rejects.toThrow(error);
});

qemu.it('a client without a certificate is not let in', async () => {
  const { port } = await serve('ours');
  const { ca } = clientOf(join(folder, 'ours'));
  await expect(open(port, { ca })).rejects.toThrow(/cannot be/);
});

async function listen(onClient: (client: Socket) => void): Promise<{ listener: Server; port: number }> {
  const listener = createServer((client) => {
    client.on('error', () => {});
    onClient(client);
  });
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void listener.close());
  return { listener, port: (listener.address() as { port: number }).port };
}

const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);
const reply = (type: number) => {
  const bytes = Buffer.alloc(20);
  Buffer.from('0003e889045565a9', 'hex').copy(bytes);
  bytes.writeUInt32BE(5, 8);
  bytes.writeUInt32BE(type, 12);
  return bytes;
};

qemu.it.each<[what: string, answer: Buffer, error: RegExp]>([
  ['knows no TLS', reply(0x80000001), /it refuses TLS/],
  ['goes on in clear text, as somebody on the way might', Buffer.concat([reply(1), GREETING]), /goes on without TLS/],
  ['says what is no TLS', Buffer.concat([reply(1)]), /cannot be/],
])('a server that %s is given up', async (_what, answer, error) => {
  const { port } = await listen((client) => {
    client.write(GREETING);
    // Flags, then the option.
    client.once('data', () => client.once('data', () => undefined));
    client.on('data', (bytes) => {
      if (bytes.includes('IHAVEOPT')) client.write(answer);
      else if (bytes[0] === 0x16) client.end('no TLS at all, but some text that is long enough to be looked at');
    });
  });
  await expect(open(port, clientOf(join(folder, 'ours')))).rejects.toThrow(error);
});
