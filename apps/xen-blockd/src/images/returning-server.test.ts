import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type ListenOptions, connect as openSocket, type Socket } from 'node:net';
import type { Blkfront } from '@xenpv/blkfront';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { makeCertificates } from '@xenpv/test-support/certificates';
import { freePort } from '@xenpv/test-support/ports';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { TestDaemon } from '../testing/daemon.js';
import { GuestLoad } from '../testing/guest-load.js';
import { type ExportPlace, NbdExport, type ServedExport } from '../testing/nbd-export.js';

const MIB = 1 << 20;
const UNFIT = 'the NBD server is there, and cannot be used';
const BACK = 'the NBD server is back';

const qemu = needs('qemu-storage-daemon', 'openssl', 'Linux');

/** Something that listens where the server was. */
async function listen(place: ExportPlace, onConnection: (client: Socket) => void, cleanup: Cleanup): Promise<void> {
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    sockets.add(client.on('error', () => {}));
    onConnection(client);
  });
  const where: ListenOptions = typeof place === 'string' ? { path: place } : { port: place, host: '127.0.0.1' };
  if (typeof place === 'string') rmSync(place, { force: true });
  await once(listener.listen(where), 'listening');
  cleanup.defer(async () => {
    for (const socket of sockets) socket.destroy();
    await once(listener.close(), 'close');
  });
}

qemu.describe.each(['nbd+unix', 'nbds'] as const)('a guest of an NBD server by %s', (scheme) => {
  let daemon: TestDaemon;
  let served: ServedExport;
  let server: NbdExport;
  let guest: Blkfront;
  let cleanup: Cleanup;

  beforeEach(async () => {
    cleanup = new Cleanup();
    daemon = cleanup.use(await TestDaemon.create());
    const [image, socket, certificates] = ['image', 'server', 'tls'].map((name) => daemon.host.path(name));
    writeFileSync(image, '');
    truncateSync(image, 4 * MIB);
    const byTls = scheme === 'nbds';
    if (byTls) {
      mkdirSync(certificates);
      makeCertificates(certificates, { serverNames: 'IP:127.0.0.1' });
    }
    const place = byTls ? await freePort() : socket;
    served = { place, image, name: 'disk', certificates: byTls ? certificates : undefined };
    cleanup.defer(() => server.kill());
    server = await NbdExport.start(served);
    void daemon.start({ threads: 0, ...(byTls && { 'nbd-tls': certificates }) });
    await daemon.says('ready');
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    const target = byTls ? `nbds://127.0.0.1:${place}/disk` : `nbd+unix:///disk?socket=${socket}`;
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target });
    guest = await daemon.host.connectGuest(domid);
    cleanup.defer(() => daemon.host.host.toolstack.detachDisk(domid, 'xvda'));
  });
  afterEach(() => cleanup[Symbol.asyncDispose]());

  const restart = async (other: Partial<ServedExport> = {}) => {
    await server.kill();
    server = await NbdExport.start({ ...served, ...other });
  };

  /** The guest reads while the server is away and something else is done: it has the answer once the server is back. */
  async function whileAway(task: () => Promise<void>): Promise<void> {
    const data = randomBytes(64 << 10);
    await guest.write(MIB, data);
    await server.kill();
    await daemon.says('lost the NBD server');
    let isRead = false;
    const reading = guest.read(MIB, data.length).finally(() => {
      isRead = true;
    });
    await task();
    expect(isRead).toBe(false);
    await restart();
    expect(Buffer.from(await reading).equals(data)).toBe(true);
    await guest.flush();
    expect(
      readFileSync(served.image)
        .subarray(MIB, MIB + data.length)
        .equals(data),
    ).toBe(true);
    await daemon.says(BACK);
  }

  it('loses nothing when it is killed again and again under load', async () => {
    const load = new GuestLoad(guest, { operations: 20, timeoutMs: 20_000 });
    for (let kill = 0; kill < 3; kill++) {
      await load.goesOn();
      await restart();
    }
    await load.goesOn();
    await load.end();
  });

  it.each<[string, (image: string) => Partial<ServedExport>, RegExp]>([
    [
      'with a smaller export',
      (image) => {
        writeFileSync(`${image}-2`, Buffer.alloc(2 * MIB));
        return { image: `${image}-2` };
      },
      /^the export is smaller than before$/,
    ],
    ['with an export that is only read', () => ({ readOnly: true }), /^the export takes no writes any more$/],
    ['with another export', () => ({ name: 'other' }), /^it refuses the export "disk": .*not.*present/],
  ])('that is back %s waits for its own one, and why is told once', async (_, change, reason) => {
    await whileAway(async () => {
      await restart(change(served.image));
      await daemon.says(UNFIT);
    });
    const told = daemon.lines.filter(({ msg }) => msg === UNFIT);
    expect(told).toEqual([expect.objectContaining({ level: 50, reason: expect.stringMatching(reason) })]);
  });

  it('that is back with a larger export goes on, and has the rest after refresh', async () => {
    await guest.write(0, randomBytes(4096));
    await server.kill();
    truncateSync(served.image, 6 * MIB);
    await restart();
    await guest.write(4 * MIB - 4096, randomBytes(4096));
    expect(guest.size).toBe(4 * MIB);
    const client = await QmpClient.connect(daemon.host.path('control'));
    await client.execute('x-refresh').finally(() => client.close());
    await expect.poll(() => guest.size).toBe(6 * MIB);
    const data = randomBytes(4096);
    await guest.write(6 * MIB - 4096, data);
    expect(Buffer.from(await guest.read(6 * MIB - 4096, 4096)).equals(data)).toBe(true);
  });

  it('waits for a server that says nothing, and goes on with the one after it', async () => {
    await whileAway(async () => {
      await using silent = new Cleanup();
      const met = new Promise((resolve) => void listen(served.place, resolve, silent));
      await met;
    });
  });

  it('goes on with a server that says slowly, a few bytes at a time, what it exports', async () => {
    const data = randomBytes(64 << 10);
    await guest.write(MIB, data);
    await server.kill();
    const behind = scheme === 'nbds' ? await freePort() : daemon.host.path('behind');
    server = await NbdExport.start({ ...served, place: behind });
    let dribbled = 0;
    const relay = (client: Socket) => {
      const to = typeof behind === 'string' ? openSocket(behind) : openSocket(behind, '127.0.0.1');
      client.pipe(to.on('error', () => client.destroy()));
      client.on('close', () => to.destroy());
      void (async () => {
        for await (const bytes of to as AsyncIterable<Buffer>) {
          for (let at = 0; at < bytes.length; ) {
            const isSlow = dribbled < 256;
            const piece = isSlow ? bytes.subarray(at, at + 7) : bytes.subarray(at);
            client.write(piece);
            at += piece.length;
            if (!isSlow) continue;
            dribbled += piece.length;
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }
      })().catch(() => client.destroy());
    };
    await listen(served.place, relay, cleanup);
    expect(Buffer.from(await guest.read(MIB, data.length)).equals(data)).toBe(true);
    expect(dribbled).toBeGreaterThan(100);
    await daemon.says(BACK);
    expect(daemon.lines.filter(({ msg }) => msg === UNFIT)).toEqual([]);
  });
});
