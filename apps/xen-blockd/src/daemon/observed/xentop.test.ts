import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { XenstoreClient } from '@xenpv/xenstore';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EmbeddedHost } from '../../testing/host.js';
import { Daemon } from '../daemon.js';

vi.setConfig({ testTimeout: 60_000 });

const SOON = { timeout: 20_000 };
const KEY = 'kthread-pid';
const MIB = 1 << 20;
const OWN = `td3-${process.pid}`;

let host: EmbeddedHost;
let shm: string;
let said: Record<string, unknown>[];

beforeEach(async () => {
  host = await EmbeddedHost.create();
  shm = host.path('shm');
  mkdirSync(shm);
  said = [];
  writeFileSync(host.path('image'), Buffer.alloc(MIB));
});
afterEach(() => host[Symbol.asyncDispose]());

async function serve(): Promise<Daemon> {
  const provider = host.host.provider(0);
  const store = XenstoreClient.open(await provider.connectXenstore());
  const logger = pino({ level: 'warn', base: null }, { write: (line) => said.push(JSON.parse(line)) });
  return Daemon.start({ provider, store, types: ['vbd3', 'qdisk'], logger, xentopDirectory: shm });
}

async function attach(backendType: 'tap' | 'qdisk', readOnly = false) {
  const { domid } = await host.host.createDomain({ name: 'guest' });
  await host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: host.path('image'), backendType, readOnly });
  const guest = await host.connectGuest(domid);
  return { domid, guest, file: `${shm}/${OWN}/vbd-${domid}-51712`, key: backendKey(domid) };
}

const backendKey = (domid: number) => `/local/domain/0/backend/vbd3/${domid}/51712/${KEY}`;
const readKey = (path: string) => host.store.tryRead(path);
/** The number of 64 bits at this place behind the version. */
const figure = (file: string, at: number) => Number(readFileSync(file).readBigUInt64LE(8 + 8 * at));

describe('figures for xentop', () => {
  it('of a vbd3 disk are where its key says, grow with its requests, and go with it', async () => {
    await using _daemon = await serve();
    const { domid, guest, file, key } = await attach('tap');
    await expect.poll(() => readKey(key), SOON).toBe(`${process.pid}`);
    const before = figure(file, 3);
    await guest.read(0, 64 * 1024);
    await expect.poll(() => figure(file, 3), SOON).toBe(before + 128);
    expect(readFileSync(file)).toHaveLength(96);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(`${shm}/${OWN}`).mode & 0o777).toBe(0o700);
    await host.host.toolstack.detachDisk(domid, 'xvda');
    await expect.poll(() => existsSync(file), SOON).toBe(false);
    expect(await readKey(key)).toBeUndefined();
  });

  it('are none of a qdisk, and there is nothing when the daemon has ended', async () => {
    const daemon = await serve();
    const { domid } = await attach('qdisk', true);
    await attach('tap', true);
    await expect.poll(() => existsSync(`${shm}/${OWN}`), SOON).toBe(true);
    expect(existsSync(`${shm}/${OWN}/vbd-${domid}-51712`)).toBe(false);
    expect(await readKey(`/local/domain/0/backend/qdisk/${domid}/51712/${KEY}`)).toBeUndefined();
    await daemon[Symbol.asyncDispose]();
    expect(readdirSync(shm)).toEqual([]);
  });

  it('are there again with the next daemon, which finds the disk connected', async () => {
    const first = await serve();
    const { file, key, guest } = await attach('tap');
    await expect.poll(() => existsSync(file), SOON).toBe(true);
    await expect.poll(() => readKey(key), SOON).toBe(`${process.pid}`);
    await first[Symbol.asyncDispose]();
    expect(existsSync(file)).toBe(false);
    await host.store.write(key, 1);
    await using _second = await serve();
    await expect.poll(() => readKey(key), SOON).toBe(`${process.pid}`);
    expect(existsSync(file)).toBe(true);
    await guest.read(0, 4096);
  });

  it('that a process left which is gone are removed, and nothing of others is', async () => {
    // No process has such a number.
    const gone = 0x7fff_fff0;
    for (const name of [`td3-${gone}`, OWN]) {
      mkdirSync(`${shm}/${name}`);
      writeFileSync(`${shm}/${name}/xen-blockd`, '');
      writeFileSync(`${shm}/${name}/vbd-1-51712`, 'old');
    }
    mkdirSync(`${shm}/td3-${gone - 1}`);
    mkdirSync(`${shm}/td3-1`);
    writeFileSync(`${shm}/td3-1/xen-blockd`, '');
    await using _daemon = await serve();
    await attach('tap');
    const ours = () => existsSync(`${shm}/${OWN}/xen-blockd`) && !existsSync(`${shm}/td3-${gone}`);
    await expect.poll(ours, SOON).toBe(true);
    expect(readdirSync(shm).sort()).toEqual(['td3-1', `td3-${gone - 1}`, OWN].sort());
  });

  it.each(['a folder', 'a link'])(
    'are not written where somebody else has made %s, and disks are served',
    async (what) => {
      mkdirSync(host.path('elsewhere'));
      if (what === 'a folder') mkdirSync(`${shm}/${OWN}`);
      else symlinkSync(host.path('elsewhere'), `${shm}/${OWN}`);
      await using _daemon = await serve();
      const { guest, key } = await attach('tap');
      await guest.read(0, 4096);
      expect(said.filter(({ msg }) => msg === 'xentop has no figures of vbd3 disks')).toMatchObject([
        { reason: expect.stringContaining('EEXIST') },
      ]);
      expect(readdirSync(host.path('elsewhere'))).toEqual([]);
      expect(await readKey(key)).toBeUndefined();
    },
  );
});
