import { resolve } from 'node:path';
import { EmulatedHost } from '@xenpv/emulator';
import { XenSysError } from '@xenpv/xen-sys';
import { Cleanup } from '../cleanup.js';
import { StopSignal } from '../daemon/stop-signal.js';
import { BlockdError, ExitCode } from '../errors.js';

/** What `xen-blockd host` is told. */
export interface HostOptions {
  readonly dir: string;
  readonly memoryMib?: number;
}

/**
 * An emulated Xen host in a folder, until a signal comes: what `run --emulator` and `guest` of other processes join. It goes
 * on when they are killed. Resolves with the exit code. Errors: ERR_SOCKET the folder is in use or cannot be used.
 */
export async function runHost(options: HostOptions): Promise<number> {
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal());
  const directory = resolve(options.dir);
  try {
    cleanup.use(await openHost(directory, options));
    process.stdout.write(`host ready ${directory}\n`);
    await stop.wait();
    return ExitCode.ok;
  } finally {
    await cleanup[Symbol.asyncDispose]();
  }
}

async function openHost(directory: string, { memoryMib }: HostOptions): Promise<EmulatedHost> {
  try {
    return await EmulatedHost.create({ directory, memoryMiB: memoryMib });
  } catch (cause) {
    if (!(cause instanceof XenSysError) && !(cause instanceof Error && 'code' in cause)) throw cause;
    const message = `host in ${directory}: ${(cause as Error).message}`;
    throw new BlockdError('ERR_SOCKET', 'start host', message, { path: directory, cause });
  }
}
