import { Blkfront } from '@xenpv/blkfront';
import type { AbiName } from '@xenpv/blkif';
import { type BackendType, joinHost, RemoteHost } from '@xenpv/emulator';
import { NbdServer } from '@xenpv/nbd';
import { XenstoreClient } from '@xenpv/xenstore';
import { Cleanup } from '../cleanup.js';
import { StopSignal } from '../daemon/stop-signal.js';
import { Deadline } from '../deadline.js';
import { guestNbdDisk } from '../demo/guest-disk.js';
import { hashDisk } from '../demo/hash.js';
import { findImage } from '../demo/image.js';
import { BlockdError, ExitCode } from '../errors.js';
import { NO_PROGRESS, progressOn } from '../status/progress.js';
import { listenOnUnixSocket } from '../unix-socket.js';
import { verifiedLoad } from './verified-load.js';

/** What `xen-blockd guest` is told. */
export interface GuestOptions {
  readonly dir: string;
  readonly image: string;
  readonly name: string;
  readonly vdev: string;
  readonly backendtype: BackendType;
  readonly abi: AbiName;
  readonly ringPageOrder: number;
  readonly queues: number;
  readonly writable?: boolean;
  readonly load?: boolean;
  readonly seconds: number;
  readonly depth: number;
  readonly nbd?: string;
  readonly json?: boolean;
}

/** How long a backend may take to connect the disk. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * A guest of the emulated host in a folder, in this process: gets a disk, uses it as it is told, and is destroyed at the
 * end, also at that of the process. Resolves with the exit code. Errors: ERR_XEN no host, ERR_USAGE, ERR_IMAGE, ERR_GUEST.
 */
export async function runGuest(options: GuestOptions): Promise<number> {
  if (options.load && !options.writable) {
    throw new BlockdError('ERR_USAGE', 'guest', '--load overwrites the image; say --writable too');
  }
  if (options.load && options.nbd !== undefined) {
    throw new BlockdError('ERR_USAGE', 'guest', '--load and --nbd both use the disk; give one of them');
  }
  const cleanup = new Cleanup();
  const stop = cleanup.use(new StopSignal());
  try {
    const image = findImage(options.image, { readOnly: !options.writable });
    const host = cleanup.use(await connectHost(options.dir));
    const { domid } = await host.createDomain({ name: options.name, transient: true });
    const { vdev, backendtype } = options;
    const target = { vdev, target: image.path, backendType: backendtype, readOnly: !options.writable };
    const { backendPath } = await host.attachDisk(domid, target);
    const connecting = connectDisk(domid, options, cleanup, stop.signal);
    const disk = cleanup.use(
      await connecting.catch(async (error: Error) => {
        throw (await backendError(options, backendPath)) ?? error;
      }),
    );
    say(options, { connected: { domid, vdev, size: disk.size, sectorSize: disk.sectorSize, readOnly: disk.readOnly } });
    return await useDisk(disk, options, stop);
  } catch (error) {
    if (stop.received && error === stop.signal.reason) return ExitCode.failure;
    throw error;
  } finally {
    await cleanup[Symbol.asyncDispose]();
  }
}

async function connectHost(directory: string): Promise<RemoteHost> {
  try {
    return await RemoteHost.connect(directory);
  } catch (cause) {
    throw new BlockdError('ERR_XEN', 'join host', (cause as Error).message, { path: directory, cause });
  }
}

async function connectDisk(domid: number, options: GuestOptions, cleanup: Cleanup, stopped: AbortSignal) {
  const provider = await joinHost(options.dir, { domid });
  const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
  const deadline = new Deadline(stopped, CONNECT_TIMEOUT_MS);
  const { vdev, abi, ringPageOrder, queues } = options;
  try {
    return await Blkfront.connect({ provider, store, vdev, abi, ringPageOrder, queues, signal: deadline.signal });
  } catch (cause) {
    stopped.throwIfAborted();
    const advice = `no backend of type ${options.backendtype} connected ${vdev}; is one running? xen-blockd run --emulator ${options.dir}`;
    throw new BlockdError('ERR_GUEST', 'connect disk', `${advice} (${(cause as Error).message})`, { cause });
  } finally {
    deadline[Symbol.dispose]();
  }
}

/** Why the backend has not connected the disk, as it told domain 0; or undefined. */
async function backendError({ dir }: GuestOptions, backendPath: string): Promise<BlockdError | undefined> {
  const provider = await joinHost(dir);
  const store = XenstoreClient.open(await provider.connectXenstore());
  try {
    const text = await store.tryRead(`${backendPath.replace('/backend/', '/error/backend/')}/error`);
    return text === undefined ? undefined : new BlockdError('ERR_GUEST', 'connect disk', `the backend says: ${text}`);
  } finally {
    await store.close();
  }
}

async function useDisk(disk: Blkfront, options: GuestOptions, stop: StopSignal): Promise<number> {
  if (options.nbd !== undefined) return lend(disk, options.nbd, stop);
  if (options.load) return load(disk, options, stop);
  const bar = options.json ? NO_PROGRESS : progressOn(process.stderr);
  const began = performance.now();
  const hash = hashDisk(disk, (bytes) => bar.update(bytes, disk.size));
  const sha256 = await Promise.race([hash, stop.wait().then(() => undefined)]);
  bar[Symbol.dispose]();
  if (sha256 === undefined) return ExitCode.failure;
  say(options, { sha256, bytes: disk.size, milliseconds: Math.round(performance.now() - began) });
  return ExitCode.ok;
}

async function load(disk: Blkfront, options: GuestOptions, stop: StopSignal): Promise<number> {
  const deadline = new Deadline(stop.signal, options.seconds * 1000);
  const show = process.stderr.isTTY && !options.json;
  const report = await verifiedLoad(disk, {
    depth: options.depth,
    signal: deadline.signal,
    progress: (operations, longestMs) => {
      if (show) process.stderr.write(`\r${operations} operations, the longest ${Math.round(longestMs)} ms\x1b[K`);
    },
  });
  deadline[Symbol.dispose]();
  if (show) process.stderr.write('\r\x1b[K');
  say(options, { ...report, longestMs: Math.round(report.longestMs) });
  return report.errors === 0 && report.wrong === 0 ? ExitCode.ok : ExitCode.failure;
}

async function lend(disk: Blkfront, socket: string, stop: StopSignal): Promise<number> {
  const server = new NbdServer({ disk: guestNbdDisk(disk) });
  await listenOnUnixSocket(server.listener, socket);
  process.stdout.write(`nbd ready ${socket}\n`);
  await Promise.race([stop.wait(), disk.closed]);
  await server.close();
  if (!disk.readOnly) await disk.flush();
  return ExitCode.ok;
}

/** A line of JSON, or `name value` pairs. */
function say({ json }: GuestOptions, facts: Record<string, unknown>): void {
  const text = json ? JSON.stringify(facts) : describe(facts);
  process.stdout.write(`${text}\n`);
}

function describe(facts: Record<string, unknown>): string {
  return Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${typeof value === 'object' && value !== null ? describe({ ...value }) : value}`)
    .join('  ');
}
