import type { XenProvider } from '@xenpv/xen-sys';
import { servePv } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import { VtemplateDevice } from './device.js';
import { CONFIG, FRONTEND_KEYS, TYPE } from './protocol.js';

/** Serves every device of the type. */
export function serve(provider: XenProvider, store: XenstoreClient) {
  const device = () => new VtemplateDevice();
  return servePv({ provider, store, type: TYPE, keys: FRONTEND_KEYS, config: CONFIG, device });
}
