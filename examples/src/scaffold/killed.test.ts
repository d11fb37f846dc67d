import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { EmulatedHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { attachDevice, FrontendDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect } from 'vitest';
import { until } from './echo-world.js';

/** A backend in a process of its own: counts the events that it sees in the first word of a page. */
const PROGRAM = `
import { joinHost } from '@xenpv/emulator';
import { servePv } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
const provider = await joinHost(process.argv[2]);
const store = XenstoreClient.open(await provider.connectXenstore());
const keys = { 'page-ref': { type: 'gref' }, 'event-channel': { type: 'port' } };
await servePv({
  provider, store, type: 'count', keys,
  device: () => ({
    connect({ keys, link, adopt }) {
      const page = link.map(keys['page-ref'], { writable: true });
      link.bind(keys['event-channel'], () => void page.writeUInt32LE(page.readUInt32LE(0) + 1, 0));
      console.log(adopt ? 'adopted' : 'connected');
    },
  }),
});
console.log('serves');
`;

const examples = fileURLToPath(new URL('../..', import.meta.url));
const program = join(examples, 'killed.tmp.mjs');
const children: ChildProcess[] = [];
let directory: string;
let host: EmulatedHost;

beforeEach(async () => {
  await writeFile(program, PROGRAM);
  directory = await mkdtemp('/dev/shm/killed-');
  host = await EmulatedHost.create({ directory });
});

afterEach(async () => {
  await Promise.all(children.splice(0).map(kill));
  await host.close();
  await Promise.all([rm(directory, { recursive: true, force: true }), rm(program)]);
});

/** Starts a backend, and gives the lines that it prints. */
function start(): { child: ChildProcess; lines: string[] } {
  const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const lines: string[] = [];
  createInterface(child.stdout!).on('line', (line) => lines.push(line));
  return { child, lines };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

needs('Linux', working('the addon of xen-sys', requireNativeAddon)).it(
  'a backend that is killed is replaced under its guest, which notices nothing',
  async () => {
    const guest = await host.createDomain({ name: 'guest' });
    await using store = XenstoreClient.open(await host.provider(0).connectXenstore());
    await attachDevice(store, guest.domid, { type: 'count' });
    let backend = start();
    await using frontend = await FrontendDevice.connect({
      provider: guest.provider,
      store,
      domid: guest.domid,
      type: 'count',
      devid: 0,
      publish: ({ link }) => {
        const { refs, bytes } = link.grant();
        const channel = link.bind(() => {});
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared: { page: bytes, channel } };
      },
    });
    await until(() => backend.lines.includes('connected'));
    const { page, channel } = frontend.shared;
    for (let round = 0; round < 3; round++) {
      const before = page.readUInt32LE(0);
      channel.notify();
      await until(() => page.readUInt32LE(0) > before);
      await kill(backend.child);
      // What is sent while nobody is there is looked for by the next one.
      const unseen = page.readUInt32LE(0);
      channel.notify();
      backend = start();
      await until(() => page.readUInt32LE(0) > unseen);
      await until(() => backend.lines.includes('adopted'));
    }
    expect(frontend.connected).toBe(true);
    expect(guest.usage()).toMatchObject({ grants: 1, mapped: 1, ports: 1 });
  },
);
