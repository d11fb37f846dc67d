import { type Domid, unlessAborted } from '@xenpv/xen-sys';
import { joinMachine } from './processes/joined-machine.js';
import { EmulatedProvider } from './provider.js';

export type { EmulatedProvider };

/** As which domain a host is joined, and for how long that is tried. */
export interface JoinOptions {
  /** 0 by default. */
  readonly domid?: Domid | undefined;
  /** Rejects with its reason. The wait alone ends: the thread joins once, for all who ask. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Xen as domain `domid`, 0 if not given, of the host in a folder sees it, on this thread: a host that another process
 * made with `EmulatedHost.create`. Errors: ERR_NO_DEVICE no host answers there; ERR_NO_ADDON; the signal's reason.
 */
export async function joinHost(directory: string, options: JoinOptions = {}): Promise<EmulatedProvider> {
  const { domid = 0, signal } = options;
  return new EmulatedProvider(await unlessAborted(signal, () => joinMachine(directory)), domid);
}
