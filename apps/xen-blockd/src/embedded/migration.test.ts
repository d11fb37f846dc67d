import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { diesOf, writePages } from '../testing/deadly-request.js';
import { FolderHost } from '../testing/folder-host.js';
import { type BlockdProcess, runBlockd } from '../testing/process.js';
import { processesWith } from '../testing/storage-helpers.js';
import { runTool } from '../tools.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const PAGE = 4096;
const BYTES = 2 << 20;
const SOON = { timeout: 30_000 };
/** What xl gives the domain that it creates for a guest on its way. */
const INCOMING = { name: 'web--incoming' };
const WAITS = 'its guest has come from another host and waits for the image';

/** A host with a daemon of its own, and what a toolstack does there. */
class Machine {
  readonly folder: FolderHost;
  readonly store: XenstoreClient;
  readonly #remote: RemoteHost;
  readonly #cleanup: Cleanup;
  daemon!: BlockdProcess;

  private constructor(folder: FolderHost, store: XenstoreClient, remote: RemoteHost, cleanup: Cleanup) {
    this.folder = folder;
    this.store = store;
    this.#remote = remote;
    this.#cleanup = cleanup;
  }

  static async start(cleanup: Cleanup): Promise<Machine> {
    const folder = cleanup.use(await FolderHost.start());
    const remote = cleanup.use(await RemoteHost.connect(folder.directory));
    const provider = await joinHost(folder.directory);
    const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    const machine = new Machine(folder, store, remote, cleanup);
    await machine.serve();
    return machine;
  }

  async serve(): Promise<void> {
    this.daemon = this.folder.starting('--threads', '1');
    await this.daemon.says('"ready"');
  }

  /** A domain whose disk is offered to it; resolves with its domid. */
  async create(disk: Disk, { name }: { name: string }): Promise<number> {
    const { domid } = await this.#remote.createDomain({ name });
    await this.#remote.attachDisk(domid, { vdev: 'xvda', ...disk });
    await expect.poll(() => this.state(domid), SOON).toMatch(/[256]/);
    return domid;
  }

  async connect(domid: number): Promise<Blkfront> {
    const provider = await joinHost(this.folder.directory, { domid });
    const store = this.#cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    const disk = await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 500 });
    // Its domain may be gone then.
    this.#cleanup.defer(() => disk.close().catch(() => {}));
    return disk;
  }

  /** The guest's memory is here: it gets its name, and runs. */
  async goOn(domid: number): Promise<Blkfront> {
    await this.store.write(`/local/domain/${domid}/name`, 'web');
    return this.connect(domid);
  }

  destroy(domid: number): Promise<void> {
    return this.#remote.destroyDomain(domid);
  }

  state(domid: number): Promise<string | undefined> {
    return this.store.tryRead(`/local/domain/0/backend/qdisk/${domid}/51712/state`);
  }

  /** `xen-blockd list`. */
  async list(): Promise<{ connected: boolean; held?: object }[]> {
    const { stdout } = await runBlockd('list', '--json', '--socket', this.folder.path('xen-blockd.sock'));
    return JSON.parse(stdout);
  }
}

interface Disk {
  readonly target: string;
  readonly format: 'raw' | 'qcow2';
}

let cleanup: Cleanup;
let sender: Machine;
let receiver: Machine;
beforeEach(async () => {
  cleanup = new Cleanup();
  sender = await Machine.start(cleanup);
  receiver = await Machine.start(cleanup);
});
afterEach(() => cleanup[Symbol.asyncDispose]());

/** On storage that both hosts have. */
async function imageOf(format: Disk['format']): Promise<Disk> {
  const target = sender.folder.path(`image.${format}`);
  if (format === 'raw') {
    writeFileSync(target, '');
    truncateSync(target, BYTES);
  } else expect((await runTool('qemu-img', ['create', '-q', '-f', format, target, String(BYTES)])).code).toBe(0);
  return { target, format };
}

/** What a guest has written all over its disk, which nothing has flushed. */
async function written(disk: Blkfront): Promise<Buffer> {
  const data = randomBytes(BYTES);
  for (let at = 0; at < BYTES; at += BYTES / 8) await disk.write(at, data.subarray(at, at + BYTES / 8));
  return data;
}

const holds = async (disk: Blkfront, data: Buffer) => Buffer.compare(await disk.read(0, BYTES), data) === 0;
const addon = working('the addon of xen-sys', requireNativeAddon);

needs(addon, 'qemu-img', 'qemu-storage-daemon', 'Linux').describe.each(['raw', 'qcow2'] as const)(
  'a guest with a %s image that migrates to another host',
  (format) => {
    it('finds all that it wrote until the last moment, and waits while the other host has the image', async () => {
      const disk = await imageOf(format);
      const leaving = await sender.create(disk, { name: 'web' });
      const before = await sender.connect(leaving);
      await written(before);
      const coming = await receiver.create(disk, INCOMING);
      const data = await written(before);
      const connecting = receiver.goOn(coming);
      connecting.catch(() => {});
      await receiver.daemon.says(WAITS);
      expect(await receiver.state(coming)).toBe('2');
      expect(await receiver.list()).toMatchObject([{ held: { reason: expect.stringMatching(/in use|lock/) } }]);
      await sender.destroy(leaving);
      const after = await connecting;
      expect(await holds(after, data)).toBe(true);
      const more = await written(after);
      expect(await holds(after, more)).toBe(true);
      expect(receiver.daemon.stderr.split(WAITS)).toHaveLength(2);
      expect(await receiver.list()).toMatchObject([{ connected: true }]);
      // Now it is the other host that has to do without.
      expect(await sender.state(await sender.create(disk, { name: 'web2' }))).toMatch(/[56]/);
      await expect.poll(() => sender.daemon.stderr, SOON).toMatch(/in use|Failed to get/);
      expect(await holds(after, more)).toBe(true);
    });

    it('goes on where it was when the migration is given up, and nothing of that is left', async () => {
      const disk = await imageOf(format);
      const staying = await sender.create(disk, { name: 'web' });
      const guest = await sender.connect(staying);
      const helpers = processesWith(disk.target);
      // Before its guest has connected there, and while it waits.
      for (const waits of [false, true]) {
        const coming = await receiver.create(disk, INCOMING);
        if (waits) {
          receiver.goOn(coming).catch(() => {});
          await receiver.daemon.says(WAITS);
        }
        await receiver.destroy(coming);
        await expect.poll(() => receiver.list(), SOON).toEqual([]);
        expect(await holds(guest, await written(guest))).toBe(true);
      }
      expect(processesWith(disk.target)).toEqual(helpers);
      expect(await sender.state(staying)).toBe('4');
      expect(readdirSync(receiver.folder.path('journal'))).toEqual([]);
    });

    it('waits on after its daemon was killed and started again, which knows no other name than the last', async () => {
      const disk = await imageOf(format);
      const leaving = await sender.create(disk, { name: 'web' });
      const data = await written(await sender.connect(leaving));
      const coming = await receiver.create(disk, INCOMING);
      const connecting = receiver.goOn(coming);
      connecting.catch(() => {});
      await receiver.daemon.says(WAITS);
      await receiver.folder.kill(receiver.daemon);
      await receiver.serve();
      await receiver.daemon.says(WAITS);
      await sender.destroy(leaving);
      const guest = await connecting;
      await receiver.folder.kill(receiver.daemon);
      await receiver.serve();
      await receiver.daemon.says('"adopted":true');
      expect(await holds(guest, data)).toBe(true);
    });

    it('is a guest like any other without the name: refused at once', async () => {
      const disk = await imageOf(format);
      await written(await sender.connect(await sender.create(disk, { name: 'web' })));
      const other = await receiver.create(disk, { name: 'web' });
      expect(await receiver.state(other)).toMatch(/[56]/);
      await expect.poll(() => receiver.daemon.stderr, SOON).toMatch(/in use|Failed to get/);
      expect(receiver.daemon.stderr).not.toContain(WAITS);
    });
  },
);

needs(addon, 'Linux').it(
  'what its first host has noted of its requests is not carried out once it is served by another one',
  async () => {
    const disk = await imageOf('raw');
    const leaving = await sender.create(disk, { name: 'web' });
    const before = await sender.connect(leaving);
    const coming = await receiver.create(disk, INCOMING);
    await sender.folder.kill(sender.daemon);
    for (const answer of writePages(rawQueue(before), [10, 20, 30])) answer.catch(() => {});
    await diesOf(sender.folder.directory, { point: 'queued', offset: 20 * PAGE });
    expect(readdirSync(sender.folder.path('journal'))).toContain(`qdisk-${leaving}-51712-0`);
    // Nobody has the image.
    const after = await receiver.goOn(coming);
    const data = await written(after);
    await sender.serve();
    await sender.daemon.says('held, its guest waits');
    await sender.destroy(leaving);
    await sender.folder.kill(sender.daemon, 'SIGTERM');
    await sender.serve();
    await expect.poll(() => readdirSync(sender.folder.path('journal')), SOON).toEqual([]);
    expect(await holds(after, data)).toBe(true);
    await after.close();
    await sender.folder.kill(sender.daemon, 'SIGTERM');
    expect(readFileSync(disk.target).equals(data)).toBe(true);
  },
);
