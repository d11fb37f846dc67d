import { stat } from 'node:fs/promises';
import type { XenProvider, XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreError } from './errors.js';
import { SocketTransport } from './socket-transport.js';

/** What can open a xenstore connection that is no socket: a provider of `@xenpv/xen-sys`. */
export type XenstoreProvider = Pick<XenProvider, 'name' | 'connectXenstore'>;

/** Where to look for a xenstored. */
export interface LocateOptions {
  /** The socket to connect to; by default it is searched for as libxenstore does. */
  readonly path?: string | undefined;
  /** Asked where there is no socket, in a domain without a xenstored of its own: opens /dev/xen/xenbus. */
  readonly provider?: XenstoreProvider | undefined;
  readonly signal?: AbortSignal | undefined;
}

const DEFAULT_RUN_DIRECTORY = '/run/xenstored';

/**
 * Where libxenstore looks for the socket: `$XENSTORED_PATH`, or `$XENSTORED_RUNDIR/socket`, or
 * /run/xenstored/socket.
 */
export function xenstoredSocketPath(environment: NodeJS.ProcessEnv = process.env): string {
  const { XENSTORED_PATH, XENSTORED_RUNDIR } = environment;
  return XENSTORED_PATH || `${XENSTORED_RUNDIR || DEFAULT_RUN_DIRECTORY}/socket`;
}

/** Opens a connection to this machine's xenstored: its socket, or else what the provider finds. */
export async function locateXenstored(options: LocateOptions): Promise<XenstoreTransport> {
  const { provider, signal } = options;
  const path = options.path ?? xenstoredSocketPath();
  const tried: string[] = [];
  try {
    if (!(await isDevice(path))) return await SocketTransport.connect(path, { signal });
    tried.push(`${path} (a device, which needs a provider of @xenpv/xen-sys)`);
  } catch (error) {
    signal?.throwIfAborted();
    if (options.path !== undefined) throw notFound([`${path} (${reasonOf(error)})`], error);
    tried.push(`${path} (${reasonOf(error)})`);
  }
  if (provider === undefined) throw notFound(tried);
  try {
    return await provider.connectXenstore(signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    tried.push(`${provider.name} provider (${reasonOf(error)})`);
    throw notFound(tried, error);
  }
}

async function isDevice(path: string): Promise<boolean> {
  return (await stat(path)).isCharacterDevice();
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'does not exist';
  if (code === 'ECONNREFUSED') return 'nobody listens';
  if (code === 'EACCES') return 'permission denied';
  return message;
}

function notFound(tried: readonly string[], cause?: unknown): XenstoreError {
  const message = `no xenstored answers; tried ${tried.join(', ')}. Is this a Xen domain with xenstored running? XENSTORED_PATH names another socket`;
  return new XenstoreError('ERR_NO_XENSTORED', 'connect', undefined, { message, cause });
}
