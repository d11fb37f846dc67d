import type { XenProvider } from '@xenpv/xen-sys';
import { servePv } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import { EntropyDevice } from './device.js';
import { FRONTEND_KEYS, TYPE } from './protocol.js';

/** Serves every device of the type. */
export function serve(provider: XenProvider, store: XenstoreClient) {
  return servePv({ provider, store, type: TYPE, keys: FRONTEND_KEYS, device: () => new EntropyDevice() });
}
