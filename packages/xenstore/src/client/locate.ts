import { nativeProvider, type XenProvider, type XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreError } from '../errors.js';

/** What opens xenstore connections: a provider of `@xenpv/xen-sys`. */
export type XenstoreProvider = Pick<XenProvider, 'connectXenstore'>;

/** Which xenstored to connect to. */
export interface LocateOptions {
  /**
   * Its socket, or the kernel's device. By default what libxenstore takes: `$XENSTORED_PATH`, or
   * `$XENSTORED_RUNDIR/socket`, or /run/xenstored/socket, or /dev/xen/xenbus.
   */
  readonly path?: string | undefined;
  /** Asked instead of this machine; `path` does not matter then. */
  readonly provider?: XenstoreProvider | undefined;
  /** Aborting gives up the first connection, which rejects with the signal's reason. Later it means nothing. */
  readonly signal?: AbortSignal | undefined;
}

/** Opens a connection to this machine's xenstored, or to the provider's. */
export async function locateXenstored(options: LocateOptions): Promise<XenstoreTransport> {
  const { path, signal } = options;
  const provider = options.provider ?? nativeProvider({ xenstorePath: path });
  try {
    return await provider.connectXenstore({ signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new XenstoreError('ERR_NO_XENSTORED', 'connect', (cause as Error).message, { path, cause });
  }
}
