import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ServiceWatchdog } from './service-watchdog.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(4096).decode(), flush=True)
`;
const LIMIT_MS = 600;

needs(addon, 'python3').describe('the watchdog of a service manager', () => {
  let folder: string;
  let manager: ChildProcess;
  let told = '';
  const lines: string[] = [];
  const logger = pino({}, { write: (line) => void lines.push(line) });
  const times = () => told.split('WATCHDOG=1').length - 1;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'service-watchdog-'));
    told = '';
    lines.length = 0;
    manager = spawn('python3', ['-c', RECEIVER, join(folder, 'notify')], { stdio: ['ignore', 'pipe', 'inherit'] });
    manager.stdout!.on('data', (chunk) => {
      told += chunk;
    });
    await vi.waitFor(() => expect(told).toContain('bound'));
    vi.stubEnv('NOTIFY_SOCKET', join(folder, 'notify'));
    vi.stubEnv('WATCHDOG_USEC', String(LIMIT_MS * 1000));
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    manager.kill('SIGKILL');
    await once(manager, 'close');
    rmSync(folder, { recursive: true });
  });

  it('is told for as long as all threads answer, and again when a stuck one goes on', async () => {
    let goOn = () => {};
    let stuck: Promise<void> | undefined;
    const backend = { ping: async () => stuck };
    using _watchdog = new ServiceWatchdog({ backend, logger, asksThreads: true });
    await expect.poll(times).toBeGreaterThan(2);
    stuck = new Promise((resolve) => {
      goOn = resolve;
    });
    await expect.poll(() => lines.join('')).toContain('does not answer');
    const before = times();
    await sleep(2 * LIMIT_MS);
    expect(times()).toBe(before);
    stuck = undefined;
    goOn();
    await expect.poll(times).toBeGreaterThan(before + 1);
  });

  it('is told of the main thread alone where threads wait for storage themselves', async () => {
    const backend = { ping: () => new Promise<void>(() => {}) };
    using _watchdog = new ServiceWatchdog({ backend, logger, asksThreads: false });
    await expect.poll(times).toBeGreaterThan(2);
    expect(lines).toEqual([]);
  });

  it('is told nothing after the end, nor when it is that of another process, or of none', async () => {
    const backend = { ping: async () => {} };
    const watchdog = new ServiceWatchdog({ backend, logger, asksThreads: true });
    watchdog[Symbol.dispose]();
    vi.stubEnv('WATCHDOG_PID', String(process.pid + 1));
    using _others = new ServiceWatchdog({ backend, logger, asksThreads: true });
    vi.stubEnv('WATCHDOG_PID', String(process.pid));
    vi.stubEnv('WATCHDOG_USEC', '');
    using _none = new ServiceWatchdog({ backend, logger, asksThreads: true });
    await sleep(2 * LIMIT_MS);
    expect(times()).toBe(0);
  });
});
