import type { GrantTable, XenProvider } from '@xenpv/xen-sys';
import { copyByMapping } from './copy-by-mapping.js';
import type { CopyFunction } from './copy-stage.js';
import type { DataMemory } from './data-memory.js';

/** Grant copy, or its substitute where the provider has none. */
export function copyFunction(grants: GrantTable, provider: XenProvider, memory: DataMemory): CopyFunction {
  if (provider.features.grantCopy) return (batch) => grants.copy(batch);
  return (batch) => copyByMapping(grants, batch, memory);
}
