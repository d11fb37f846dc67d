import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
// The other processes cannot load TypeScript, so this one too runs what was built: a host is known by its module.
import { EmulatedHost, joinHost } from '@xenpv/emulator';
import { needs } from '@xenpv/test-support';
import type { XenProvider } from '@xenpv/xen-sys';
import { testProvider } from '@xenpv/xen-sys/testing';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { addon } from '../testing/addon.js';
import { HostProcess } from '../testing/host-process.js';

const suite = needs(addon);

// Processes start in a second, or in ten where others use the machine.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const temporary = () => mkdtempSync(join('/dev/shm', 'emulator-'));

async function leaksOf(host: HostProcess, domids: readonly number[]): Promise<string[]> {
  const lines = [];
  for (const { domid, usage } of await host.remote.domains()) {
    if (!domids.includes(domid)) continue;
    for (const [what, count] of Object.entries(usage)) {
      if (count !== 0) lines.push(`domain ${domid}: ${count} ${what}`);
    }
  }
  return lines;
}

/** Connections that a server has on its Unix socket, as the system lists them. */
function connectionsTo(path: string): number {
  const connected = new RegExp(` 03 +\\d+ ${path}$`, 'gm');
  return readFileSync('/proc/net/unix', 'utf8').match(connected)?.length ?? 0;
}

testProvider(
  'a host in another process',
  async () => {
    const directory = temporary();
    const host = await HostProcess.start(directory);
    const { domid: guest } = await host.remote.createDomain({ name: 'guest', memoryMiB: 1 });
    return {
      backend: { domid: 0, provider: await joinHost(directory) },
      frontend: { domid: guest, provider: await joinHost(directory, { domid: guest }) },
      leaks: () => leaksOf(host, [0, guest]),
      close: async () => {
        await host.close();
        rmSync(directory, { recursive: true });
      },
    };
  },
  { describe: suite.describe, it: suite.it },
);

suite.describe('a host that several processes share', () => {
  let directory: string;
  let host: HostProcess;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    directory = temporary();
    host = await HostProcess.start(directory);
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await host.kill();
    rmSync(directory, { recursive: true });
  });

  const settled = async (domids: readonly number[], wanted: readonly string[]) => {
    await expect.poll(() => leaksOf(host, domids), { timeout: 10_000 }).toEqual(wanted);
  };

  suite.it('gets back all that a process had, killed at any instant', async () => {
    const { domid: guest } = await host.remote.createDomain({ name: 'guest' });
    const provider: XenProvider = await joinHost(directory, { domid: guest });
    const allocator = provider.openGrantAllocator();
    const channels = provider.openEventChannels();
    const [ref] = allocator.allocate(0, 1, { writable: true }).refs;
    const ofGuest = [`domain ${guest}: 1 grants`, `domain ${guest}: 1 frames`];
    for (let round = 0; round < 12; round++) {
      const port = channels.bindUnbound(0);
      const script = new URL('../testing/joined-process.mjs', import.meta.url);
      const child = fork(script, [directory, String(guest), String(ref), String(port)]);
      children.push(child);
      await once(child, 'message');
      await new Promise((resolve) => setTimeout(resolve, round * 3));
      child.kill('SIGKILL');
      await once(child, 'exit');
      await settled([0, guest], [...ofGuest, `domain ${guest}: 1 ports`, `domain ${guest}: 1 eventHandles`]);
      // Its end of the channel is free for the next process.
      channels.unbind(port);
    }
    channels.close();
    allocator.close();
    await settled([0, guest], []);
  });

  suite.it('knows domains that were made and destroyed after a process joined', async () => {
    const provider = await joinHost(directory);
    const table = provider.openGrantTable();
    for (let round = 0; round < 3; round++) {
      const { domid } = await host.remote.createDomain({ name: 'guest', domid: 7 });
      const pages = (await joinHost(directory, { domid })).openGrantAllocator().allocate(0, 1, { writable: true });
      new Uint8Array(pages.buffer, pages.offsets[0], 1)[0] = round + 1;
      const mapping = table.map(domid, pages.refs, { writable: false });
      expect(new Uint8Array(mapping.buffer, mapping.offsets[0], 1)[0]).toBe(round + 1);
      await host.remote.destroyDomain(domid);
      expect(() => table.map(domid, pages.refs, { writable: false })).toThrow(/there is no domain/);
      table.unmap(mapping);
    }
    table.close();
    await settled([0], []);
  });

  suite.it('serves xenstore to each domain as itself', async () => {
    const { domid: guest } = await host.remote.createDomain({ name: 'guest' });
    const stores = await Promise.all(
      [0, guest].map(async (domid) => {
        const provider = await joinHost(directory, { domid });
        return XenstoreClient.open(await provider.connectXenstore());
      }),
    );
    expect(await Promise.all(stores.map((store) => store.read('name')))).toEqual(['Domain-0', 'guest']);
    await expect(stores[1].write('/local/domain/0/name', 'mine')).rejects.toMatchObject({ code: 'EACCES' });
    await host.remote.destroyDomain(guest);
    expect(await stores[1].closed).toBeInstanceOf(Error);
    await stores[0].close();
  });

  suite.it('says what is wrong: no host, a second host, a host that was killed', async () => {
    await expect(joinHost(join(directory, 'none'))).rejects.toMatchObject({ code: 'ERR_NO_DEVICE' });
    await expect(EmulatedHost.create({ directory })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    const provider = await joinHost(directory);
    await host.kill();
    expect(() => provider.openEventChannels()).toThrow(/gone|no domain/);
    await expect(joinHost(directory)).rejects.toMatchObject({ code: 'ERR_NO_DEVICE' });
    host = await HostProcess.start(directory);
    (await joinHost(directory)).openEventChannels().close();
  });

  suite.it('is joined once by a thread, however many ask at once, also when it was started anew', async () => {
    const allOnce = async () => {
      await Promise.all([0, 0, 0].map((domid) => joinHost(directory, { domid })));
      return connectionsTo(join(directory, 'host.sock'));
    };
    expect(await allOnce()).toBe(1);
    await host.kill();
    host = await HostProcess.start(directory);
    expect(await allOnce()).toBe(1);
    expect(await allOnce()).toBe(1);
  });

  suite.it('leaves nothing behind when it closes', async () => {
    await host.remote.createDomain({ name: 'guest' });
    expect(await host.close()).toBe(0);
    expect(readdirSync(directory)).toEqual([]);
    host = await HostProcess.start(directory);
  });
});
