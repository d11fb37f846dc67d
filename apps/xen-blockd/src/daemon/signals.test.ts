import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, isListenedOn } from '@xenpv/test-support/ports';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BlockdProcess } from '../testing/process.js';
import { RunFolder } from '../testing/run-folder.js';

// A program starts, with all that else runs on the machine.
vi.setConfig({ testTimeout: 60_000 });

let folder: RunFolder;
let inspectorPort: number;

beforeEach(async () => {
  folder = new RunFolder();
  folder.configure();
  inspectorPort = await freePort();
});
afterEach(() => folder[Symbol.asyncDispose]());

/** Where the inspector would listen; no option that opens it. */
const environment = () => ({ NODE_OPTIONS: `--inspect-port=${inspectorPort}` });

const isInspected = () => isListenedOn(inspectorPort);

/** Whether the process has a handler for SIGUSR1: Node's own, which opens the inspector, or ours. */
function catchesUsr1(pid: number): boolean {
  const caught = /SigCgt:\s*([0-9a-f]+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${caught}`) & (1n << 9n)) !== 0n;
}

describe('signals', () => {
  it.each(['SIGUSR1', 'SIGUSR2'] as const)('%s neither opens the inspector nor ends the daemon', async (signal) => {
    const daemon = folder.run([], { env: environment() });
    await daemon.ready();
    const guest = await daemon.attach(folder.image);
    daemon.signal(signal);
    daemon.signal(signal);
    expect(await daemon.reads(guest)).toBe(true);
    expect(await isInspected()).toBe(false);
    expect(daemon.stderr).not.toMatch(/debugger|inspector/i);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('leaves no inspector open when SIGUSR1 comes again and again from the first moment of the start', async () => {
    const socket = folder.path('nbd');
    const program = new BlockdProcess(['demo', '--nbd', socket], environment());
    const { child } = program;
    // Before Node has a handler the signal's default ends any process.
    while (!existsSync(socket) && child.exitCode === null && child.signalCode === null) {
      if (catchesUsr1(child.pid as number)) program.signal('SIGUSR1');
      // A thousand in a second: with more it would do nothing but take them.
      await sleep(1);
    }
    await expect.poll(isInspected).toBe(false);
    expect([child.exitCode, child.signalCode]).toEqual([null, null]);
    program.signal('SIGTERM');
    await program.ended;
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGQUIT'] as const)(
    'QEMU e7bc0204: %s stops, and leaves the disks connected',
    async (signal) => {
      const daemon = folder.run([], { env: environment() });
      await daemon.ready();
      await daemon.attach(folder.image);
      daemon.signal(signal);
      const { code, stderr } = await daemon.ended;
      expect(code).toBe(0);
      expect(stderr).toContain(`"signal":"${signal}"`);
    },
  );
});
