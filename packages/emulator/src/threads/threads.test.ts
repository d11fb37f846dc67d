import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
// Worker threads cannot load TypeScript, so both sides run what was built.
import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import { needs } from '@xenpv/test-support';
import type { SharedProvider } from '@xenpv/xen-sys';
import { afterEach, beforeEach, expect } from 'vitest';
import { packageRoot } from '../package-root.js';
import { addon } from '../testing/addon.js';

const workers: Worker[] = [];
let host: EmulatedHost;
let folder: string | undefined;

/** Where the memory of a host lies, and what a test of it needs. */
const KINDS = [
  { kind: 'threads', inFolder: false, api: needs() },
  { kind: 'threads that joined by a folder', inFolder: true, api: needs(addon) },
];

beforeEach(() => {
  folder = undefined;
});

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.terminate()));
  await host.close();
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

async function makeHost(inFolder: boolean): Promise<void> {
  if (inFolder) folder = mkdtempSync('/dev/shm/threads-');
  host = await EmulatedHost.create({ toolstackTimeoutMs: 200, directory: folder });
}

interface Scenario {
  readonly scenario: string;
  readonly shared: SharedProvider;
  readonly [more: string]: unknown;
}

function start(scenario: Scenario): Worker {
  const worker = new Worker(new URL('../testing/worker.mjs', import.meta.url), { workerData: scenario });
  workers.push(worker);
  return worker;
}

async function message<T>(worker: Worker): Promise<T> {
  const [value] = await once(worker, 'message');
  return value as T;
}

async function pair(scenario: string, rounds: number, modes: readonly [string, string]): Promise<void> {
  const front = await host.createDomain({ name: 'front' });
  const back = await host.createDomain({ name: 'back', driverDomain: true });
  const memory = new SharedArrayBuffer(8);
  const common = { scenario, rounds, memory };
  const first = start({ ...common, shared: front.share(), opensTo: back.domid, mode: modes[0] });
  const port = await message<number>(first);
  const second = start({ ...common, shared: back.share(), peer: { domid: front.domid }, mode: modes[1] });
  second.postMessage(port);
  expect(await message(second)).toBe('bound');
  const done = [message(first), message(second)];
  first.postMessage('go');
  expect(await Promise.all(done)).toEqual([rounds, rounds]);
  const ended = [first, second].map((worker) => once(worker, 'exit'));
  for (const worker of [first, second]) worker.postMessage('end');
  await Promise.all(ended);
  for (const domain of [front, back]) expect(domain.usage()).toMatchObject({ ports: 0, eventHandles: 0 });
}

for (const { kind, inFolder, api } of KINDS) {
  api.describe(`event channels between ${kind}`, () => {
    beforeEach(() => makeHost(inFolder));

    const modes = [
      ['wait', 'wait'],
      ['listen', 'listen'],
      ['wait', 'listen'],
      ['listen', 'wait'],
    ] as const;
    for (const mode of modes) {
      api.it(`loses no wake-up by turns: ${mode.join(' and ')}`, () => pair('pingPong', 3000, mode), 60_000);
      api.it(`loses no wake-up when both hammer: ${mode.join(' and ')}`, () => pair('hammer', 300_000, mode), 60_000);
    }

    api.it('finds a domain that was made after the thread attached', async () => {
      const early = await host.createDomain({ name: 'early' });
      const memory = new SharedArrayBuffer(8);
      const word = new Int32Array(memory);
      const worker = start({ scenario: 'late', shared: early.share(), memory });
      expect(await message(worker)).toBe('attached');
      const late = await host.createDomain({ name: 'late' });
      const channels = late.provider.openEventChannels();
      const fired = new Promise<number>((resolve) => channels.listen((ports) => resolve(ports[0])));
      const port = channels.bindUnbound(early.domid);
      word[1] = port;
      Atomics.store(word, 0, late.domid);
      const bound = message(worker);
      Atomics.notify(word, 0);
      expect(await bound).toBe(true);
      expect(await fired).toBe(port);
      channels.close();
    });
  });

  api.describe(`grants between ${kind}`, () => {
    beforeEach(() => makeHost(inFolder));

    api.it(
      'never gives a page to two threads',
      async () => {
        const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
        const threads = [1, 2].map((mark) =>
          start({ scenario: 'allocate', shared: guest.share(), rounds: 20_000, mark: mark * 1e6 }),
        );
        expect(await Promise.all(threads.map((thread) => message(thread)))).toEqual(['done', 'done']);
        expect(guest.usage()).toMatchObject({ grants: 0, frames: 0 });
      },
      60_000,
    );

    api.it(
      'keeps count of pages that are used and ended at the same time',
      async () => {
        const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
        const memory = new SharedArrayBuffer(4);
        const ref = new Uint32Array(memory);
        const users = [1, 2].map(() =>
          start({ scenario: 'use', shared: host.provider().share(), owner: guest.domid, memory }),
        );
        await Promise.all(users.map((user) => message(user)));
        const allocator = guest.provider.openGrantAllocator();
        const end = performance.now() + 500;
        while (performance.now() < end) {
          const pages = allocator.allocate(0, 1, { writable: true });
          Atomics.store(ref, 0, pages.refs[0]);
          for (let i = 0; i < 200; i++) Atomics.load(ref, 0);
          // Hypercalls are carried out by this thread.
          if (inFolder) await setImmediate();
          allocator.release(pages);
        }
        const done = users.map((user) => message<number>(user));
        Atomics.store(ref, 0, 0xffffffff);
        for (const mapped of await Promise.all(done)) expect(mapped).toBeGreaterThan(0);
        expect(guest.usage()).toMatchObject({ grants: 0, mapped: 0, frames: 0 });
        allocator.close();
      },
      60_000,
    );
  });

  api.describe(`xenstore between ${kind}`, () => {
    beforeEach(() => makeHost(inFolder));

    api.it('carries more than the pipe holds, both ways', async () => {
      const guest = await host.createDomain({ name: 'guest' });
      const worker = start({ scenario: 'xenstore', shared: guest.share() });
      expect(await message(worker)).toEqual(['guest', true]);
      const ended = once(worker, 'exit');
      worker.postMessage('end');
      await ended;
    });

    api.it('ends when the domain does', async () => {
      const guest = await host.createDomain({ name: 'guest' });
      const worker = start({ scenario: 'xenstore', shared: guest.share() });
      await message(worker);
      worker.postMessage('wait for the end');
      const end = message(worker);
      await guest.destroy();
      expect(await end).toMatch(/^ERR_|^E/);
    });
  });

  api.describe(`the end of a domain of ${kind}`, () => {
    beforeEach(() => makeHost(inFolder));

    async function abandoned(): Promise<{ guest: EmulatedDomain; worker: Worker; left: { port: number } }> {
      const guest = await host.createDomain({ name: 'guest' });
      const other = await host.createDomain({ name: 'other' });
      const pages = other.provider.openGrantAllocator().allocate(guest.domid, 1, { writable: true });
      const worker = start({ scenario: 'abandon', shared: guest.share(), owner: other.domid, ref: pages.refs[0] });
      const left = await message<{ port: number }>(worker);
      expect(other.usage()).toMatchObject({ grants: 1, mapped: 1 });
      return { guest, worker, left };
    }

    api.it('wakes its threads, and gives back what they used', async () => {
      const { guest, worker } = await abandoned();
      const woken = message(worker);
      await guest.destroy();
      expect(await woken).toBe('woken');
      expect(host.domains.map((domain) => domain.usage())).toMatchObject([{ grants: 1, mapped: 0 }]);
    });

    api.it('cleans up after a thread that was terminated', async () => {
      const { guest, worker, left } = await abandoned();
      const channels = host.provider().openEventChannels();
      const port = channels.bindInterdomain(guest.domid, left.port);
      await worker.terminate();
      const all = { grants: 2, ports: 1, eventHandles: 1 };
      const nothing = { grants: 0, ports: 0, eventHandles: 0 };
      await expect.poll(() => guest.usage()).toMatchObject(inFolder ? nothing : all);
      await guest.destroy();
      expect(channels.notify(port)).toBe(0);
      expect(host.domains.map((domain) => domain.usage())).toMatchObject([{ grants: 1, mapped: 0 }]);
      channels.close();
      expect(host.usage(0)).toMatchObject({ ports: 0, eventHandles: 0 });
    });
  });

  api.describe(`a process with ${kind}`, () => {
    beforeEach(() => makeHost(inFolder));

    /** Its exit code: 7 when something kept it alive. */
    function exitCode(rest: string): Promise<number> {
      const program = `
      import { EmulatedHost } from '@xenpv/emulator';
      const host = await EmulatedHost.create({ directory: ${JSON.stringify(inFolder ? `${folder}/own` : undefined)} });
      const guest = await host.createDomain({ name: 'guest' });
      const channels = guest.provider.openEventChannels();
      setTimeout(() => process.exit(7), 1500).unref();
      ${rest}`;
      const cwd = packageRoot();
      return new Promise((resolve) => {
        const child = execFile(process.execPath, ['--input-type=module', '-e', program], { cwd });
        child.once('exit', (code) => resolve(code ?? -1));
      });
    }

    const idle = inFolder ? 7 : 0;

    const table: [string, string, number][] = [
      ['is kept alive by a listener', 'channels.listen(() => {});', 7],
      ['ends when the listener does', 'channels.listen(() => {}); channels.listen(undefined);', idle],
      ['ends when the listener is unref’d', 'channels.listen(() => {}); channels.unref();', idle],
      ['ends when the host is closed, whatever is still open', 'channels.listen(() => {}); await host.close();', 0],
      ['is kept alive by a host only if others may join it', '', idle],
    ];
    for (const [title, rest, code] of table) api.it(title, async () => expect(await exitCode(rest)).toBe(code));
  });
}
