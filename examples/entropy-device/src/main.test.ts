import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EmulatedHost } from '@xenpv/emulator';
import { RING_HEADER_BYTES } from '@xenpv/ring';
import { needs, working } from '@xenpv/test-support';
import { Errno, requireNativeAddon } from '@xenpv/xen-sys';
import { attachDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect } from 'vitest';
import { EntropyFrontend } from './frontend.js';
import { MAX_LENGTH, SLOT_WORDS, Slot, TYPE } from './protocol.js';

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));

let directory: string;
let host: EmulatedHost;
let backend: ChildProcess;

beforeEach(async () => {
  directory = await mkdtemp('/dev/shm/vrng-');
  host = await EmulatedHost.create({ directory });
  start();
});

afterEach(async () => {
  await end('SIGKILL');
  await host.close();
  await rm(directory, { recursive: true });
});

function start(): void {
  backend = spawn(process.execPath, [PROGRAM, '--emulator', directory], { stdio: ['ignore', 'inherit', 'inherit'] });
}

async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
  const ended = once(backend, 'exit');
  if (backend.kill(signal)) await ended;
  return backend.exitCode;
}

needs('Linux', working('the addon of xen-sys', requireNativeAddon)).it(
  'a process that is killed under load, again and again, costs its guest no answer',
  async () => {
    const guest = await host.createDomain({ name: 'guest' });
    await using store = XenstoreClient.open(await host.provider().connectXenstore());
    await using guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
    await attachDevice(store, guest.domid, { type: TYPE });
    const frontend = await EntropyFrontend.connect(guest.provider, guestStore);
    for (let life = 0; life < 5; life++) {
      const { ring, ringPage } = frontend.device.shared;
      const status = RING_HEADER_BYTES + 4 * ((ring.requestsProduced % ring.size) * SLOT_WORDS + Slot.status);
      ringPage.writeInt32LE(0, status);
      const answers = [frontend.ask(0)];
      while (!ring.full) answers.push(frontend.ask(MAX_LENGTH));
      // It has put the first answer into its slot, and if this process is fast enough, published none yet.
      while (ringPage.readInt32LE(status) !== Errno.EINVAL) await setImmediate();
      await end('SIGKILL');
      start();
      const [first, ...others] = await Promise.all(answers);
      expect(first).toBe(Errno.EINVAL);
      expect(new Set(others)).toEqual(new Set([0]));
    }
    await frontend.device.close();
    expect(guest.usage()).toMatchObject({ grants: 0, mapped: 0, ports: 0 });
    expect(await end('SIGTERM')).toBe(0);
  },
);
