import { statSync } from 'node:fs';
import { join } from 'node:path';
import { XenSysError } from '../errors.js';
import type { XenstoreTransport } from '../xenstore-transport.js';
import { XenstoreDevice } from './device.js';
import { XenstoreSocket } from './socket.js';

const RUN_DIRECTORIES = ['/run/xenstored', '/var/run/xenstored'];

/**
 * Where xenstore may be, in the order in which it is looked for: XENSTORED_PATH alone if it is set, else the socket
 * in XENSTORED_RUNDIR or in the usual directories, else the kernel's device (xenstore.txt, libxenstore's xs.c).
 */
export function xenstorePaths(deviceDirectory: string, env: NodeJS.ProcessEnv = process.env): string[] {
  if (env.XENSTORED_PATH) return [env.XENSTORED_PATH];
  const directories = env.XENSTORED_RUNDIR ? [env.XENSTORED_RUNDIR] : RUN_DIRECTORIES;
  return [...directories.map((directory) => join(directory, 'socket')), join(deviceDirectory, 'xenbus')];
}

/**
 * Connects to the first that is there. A socket that is there but refuses means that xenstored is down: the kernel's
 * device would then take requests and never answer.
 * Errors: ERR_NO_XENSTORE when there is none, the errno of the one that is there, or the signal's reason.
 */
export async function connectXenstore(paths: readonly string[], signal?: AbortSignal): Promise<XenstoreTransport> {
  for (const path of paths) {
    const kind = kindOf(path);
    if (kind === 'socket') return XenstoreSocket.connect(path, signal);
    if (kind === 'device') return new XenstoreDevice(path.slice(0, path.lastIndexOf('/')));
  }
  throw new XenSysError(
    'ERR_NO_XENSTORE',
    'xenstore.connect',
    `no xenstore: none of ${paths.join(', ')} is there; in dom0 start xenstored (on Debian: package xen-utils-common, systemctl start xen) or set XENSTORED_PATH, in another domain boot a kernel with Xen support`,
  );
}

function kindOf(path: string): 'socket' | 'device' | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return undefined;
  return stats.isSocket() ? 'socket' : 'device';
}
