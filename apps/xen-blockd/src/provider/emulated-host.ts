import { joinHost } from '@xenpv/emulator/join';
import type { XenProvider } from '@xenpv/xen-sys';
import { xenUnavailable } from '../errors.js';

/** Domain 0 of the emulated host in a folder. Error: ERR_XEN no host is there. */
export async function joinEmulatedHost(directory: string): Promise<XenProvider> {
  try {
    return await joinHost(directory);
  } catch (error) {
    throw xenUnavailable('join host', error);
  }
}
