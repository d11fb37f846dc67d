import { joinHost } from './join.js';
import type { DirectoryMachine } from './processes/directory.js';
import { EmulatedProvider } from './provider.js';
import type { SharedMachine } from './threads/announcements.js';
import { machineNamed } from './threads/attached-machine.js';

/**
 * Opens on this thread a provider that another thread shared (`share` of a provider). Errors: ERR_NO_DEVICE when
 * the host is gone or has not answered within 10 s, EOPNOTSUPP when it has a seed and this is another thread than its.
 */
export async function attachProvider(data: unknown): Promise<EmulatedProvider> {
  const shared = data as SharedMachine | DirectoryMachine;
  if ('directory' in shared) return joinHost(shared.directory, { domid: shared.domid });
  return new EmulatedProvider(await machineNamed(shared), shared.domid);
}
