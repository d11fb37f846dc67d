import {
  copyFlags,
  copyLength,
  type GrantCopyBatch,
  GrantCopyFlag,
  GrantCopyWord,
  type GrantMapping,
  GrantStatus,
  type GrantTable,
  grantDomid,
  grantOffset,
  grantRef,
  localHigh,
  localLow,
  setCopyStatus,
} from '@xenpv/xen-sys';
import type { DataMemory } from './data-memory.js';

/**
 * Carries out a copy batch by mapping, copying and unmapping each page, where the provider has no grant copy. The
 * local side of every segment must lie in `memory`.
 */
export function copyByMapping(grants: GrantTable, batch: GrantCopyBatch, memory: DataMemory): number {
  const { words, count } = batch;
  for (let at = 0; at < count * GrantCopyWord.segment; at += GrantCopyWord.segment) {
    setCopyStatus(words, at, copySegment(grants, words, at, memory));
  }
  return 0;
}

function copySegment(grants: GrantTable, words: Uint32Array, at: number, memory: DataMemory): number {
  const length = copyLength(words, at);
  const fromGrant = (copyFlags(words, at) & GrantCopyFlag.sourceIsGrant) !== 0;
  const [from, to] = [at + GrantCopyWord.source, at + GrantCopyWord.dest];
  const [grant, local] = fromGrant ? [from, to] : [to, from];
  const mapping = tryMap(grants, grantDomid(words, grant), grantRef(words, grant), { writable: !fromGrant });
  if (!mapping) return GrantStatus.badGntref;
  const page = new Uint8Array(mapping.buffer, mapping.offsets[0] + grantOffset(words, grant), length);
  const bytes = memory.bytesAt(localLow(words, local) + localHigh(words, local) * 2 ** 32 - memory.address, length);
  if (fromGrant) bytes.set(page);
  else page.set(bytes);
  grants.unmap(mapping);
  return GrantStatus.okay;
}

function tryMap(
  grants: GrantTable,
  domid: number,
  ref: number,
  access: { writable: boolean },
): GrantMapping | undefined {
  try {
    return grants.map(domid, Uint32Array.of(ref), access);
  } catch {
    return undefined;
  }
}
