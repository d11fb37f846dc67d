import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { freePort } from '@xenpv/test-support/ports';
import { afterEach, beforeEach, expect } from 'vitest';
import type { Config } from '../../daemon/config.js';
import { TestDaemon } from '../../testing/daemon.js';
import { GuestLoad } from '../../testing/guest-load.js';
import { IscsiServer } from '../../testing/iscsi-server.js';
import { commanded } from '../../testing/network-storage.js';
import { processesWith } from '../../testing/storage-helpers.js';

const MIB = 1 << 20;
const SOON = { timeout: 60_000, interval: 50 };
const iscsi = needs(commanded, 'qemu-storage-daemon', 'block-iscsi.so', 'tgtd', 'Linux');

let daemon: TestDaemon;
let server: IscsiServer;

async function attach(target = server.target(), config: Partial<Config> = {}) {
  void daemon.start({ threads: 0, ...config });
  await daemon.says('ready');
  const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
  await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target });
  const error = () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
  return { domid, error };
}

iscsi.describe('a unit of an iSCSI server', { timeout: 120_000 }, () => {
  beforeEach(async () => {
    daemon = await TestDaemon.create();
    writeFileSync(daemon.host.path('unit'), '');
    truncateSync(daemon.host.path('unit'), 8 * MIB);
    server = await IscsiServer.start(daemon.host.path('unit'));
  }, 60_000);
  afterEach(async () => {
    await daemon[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  }, 60_000);

  iscsi.it.each([0, 1])('has what its guest wrote, and waits for its server, with %s threads', async (threads) => {
    const { domid } = await attach(undefined, { threads, 'iscsi-hosts': ['127.0.0.1'] });
    const guest = await daemon.host.connectGuest(domid);
    const data = randomBytes(MIB);
    await guest.write(MIB, data);
    await guest.flush();
    expect(
      readFileSync(daemon.host.path('unit'))
        .subarray(MIB, 2 * MIB)
        .equals(data),
    ).toBe(true);
    expect(daemon.lines.filter(({ msg }) => msg === 'qemu-storage-daemon is not caged')).toEqual([]);
    await server.kill();
    const written = guest.write(2 * MIB, data).then(() => guest.flush());
    const late = new Promise((resolve) => setTimeout(resolve, 2000));
    expect(await Promise.race([written.then(() => 'written'), late])).toBeUndefined();
    await server.start();
    await written;
    expect(Buffer.from(await guest.read(2 * MIB, MIB)).equals(data)).toBe(true);
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
  });

  iscsi.it('loses nothing when its server is killed and cut off again and again under load', async () => {
    const { domid } = await attach();
    const load = new GuestLoad(await daemon.host.connectGuest(domid), { operations: 20, timeoutMs: 60_000 });
    for (let round = 0; round < 2; round++) {
      await load.goesOn();
      await server.kill();
      await server.start();
      await load.goesOn();
      server.pause();
      await new Promise((resolve) => setTimeout(resolve, 1000));
      server.resume();
    }
    await load.goesOn();
    await load.end();
    expect(daemon.lines.filter(({ msg }) => msg === 'qemu-storage-daemon ended')).toEqual([]);
  });

  iscsi.it.each<[string, number]>([
    ['killed', 0],
    ['cut off', 1],
  ])(
    'whose server is %s for longer than reconnect-seconds fails requests, and serves the next ones, with %s threads',
    async (how, threads) => {
      const { domid } = await attach(`${server.target()}?reconnect-seconds=4`, { threads });
      const guest = await daemon.host.connectGuest(domid);
      await guest.write(0, Buffer.alloc(4096, 1));
      await guest.flush();
      if (how === 'killed') await server.kill();
      else server.pause();
      const began = performance.now();
      const failed = await Promise.allSettled([guest.write(0, Buffer.alloc(4096, 2)), guest.read(4096, 4096)]);
      expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
      expect(performance.now() - began).toBeGreaterThan(3000);
      expect(daemon.lines.find(({ msg }) => msg === 'qemu-storage-daemon ended')).toMatchObject({
        reason: expect.stringMatching(/^its storage has not answered for 2 seconds; is the server there\?/),
      });
      if (how === 'killed') await server.start();
      else server.resume();
      const written = () =>
        guest.write(0, Buffer.alloc(4096, 3)).then(
          () => true,
          () => false,
        );
      await expect.poll(written, SOON).toBe(true);
      await guest.flush();
      // What has failed comes late no more.
      expect((await guest.read(0, 4096)).every((byte) => byte === 3)).toBe(true);
      await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
      expect(
        readFileSync(daemon.host.path('unit'))
          .subarray(0, 4096)
          .every((byte) => byte === 3),
      ).toBe(true);
    },
  );

  iscsi.it('that answers in time is left alone by reconnect-seconds', async () => {
    const { domid } = await attach(undefined, { 'reconnect-seconds': 1 });
    const guest = await daemon.host.connectGuest(domid);
    const helpers = processesWith(server.target());
    const data = randomBytes(4096);
    for (const until = performance.now() + 2000; performance.now() < until; ) await guest.write(0, data);
    expect(processesWith(server.target())).toEqual(helpers);
    expect(Buffer.from(await guest.read(0, 4096)).equals(data)).toBe(true);
  });

  iscsi.it('that asks for a password gets the one of its user', async () => {
    await server.ask('joe', 'secret-123456');
    const folder = daemon.host.path('secrets');
    mkdirSync(folder);
    writeFileSync(`${folder}/joe`, 'secret-123456');
    const { domid } = await attach(server.target('joe'), {
      'iscsi-secrets': folder,
      'iscsi-initiator': 'iqn.2026-01.org.example:host1',
    });
    const guest = await daemon.host.connectGuest(domid);
    const data = randomBytes(4096);
    await guest.write(0, data);
    await guest.flush();
    expect(readFileSync(daemon.host.path('unit')).subarray(0, 4096).equals(data)).toBe(true);
  });

  iscsi.it.each<[string, (target: string) => string | Promise<string>, RegExp]>([
    ['no such unit', (target) => target.replace(/1$/, '7'), /LOGICAL_UNIT_NOT_SUPPORTED.*that of one of its units/],
    ['no such target', (target) => target.replace(':disk', ':none'), /Target not found.*does the server have a target/],
    [
      'nobody there',
      async (target) => target.replace(/:\d+\//, `:${await freePort()}/`),
      /connect.*is the server there, on this port/,
    ],
    [
      'a user without a folder of passwords',
      (target) => target.replace('//', '//joe@'),
      /user joe has a password; name its folder in iscsi-secrets/,
    ],
  ])('%s is told of', async (_, change, text) => {
    const { error } = await attach(await change(server.target()));
    await expect.poll(error, SOON).toMatch(text);
  });

  iscsi.it('a wrong password, one with an end of line, and none are told of', async () => {
    await server.ask('joe', 'secret-123456');
    const folder = daemon.host.path('secrets');
    mkdirSync(folder);
    const { error } = await attach(server.target('joe'), { 'iscsi-secrets': folder });
    await expect.poll(error, SOON).toMatch(/secrets\/joe, the password of joe, is not there; write it: printf %s/);
    const next = async (content: string) => {
      writeFileSync(`${folder}/joe`, content);
      const { domid } = await daemon.host.host.createDomain({ name: 'next' });
      await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: server.target('joe') });
      return () => daemon.host.store.tryRead(`/local/domain/0/error/backend/qdisk/${domid}/51712/error`);
    };
    await expect.poll(await next('secret-123456\n'), SOON).toMatch(/has an end of line/);
    await expect
      .poll(await next('secret-654321'), SOON)
      .toMatch(/Authentication failure.*compare the user in the target/);
  });
});
