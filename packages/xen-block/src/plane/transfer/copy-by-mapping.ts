import { type GrantCopyBatch, type GrantMapping, GrantStatus, type GrantTable } from '@xenpv/xen-sys';

/** Word offsets in a segment of a GrantCopyBatch, and its flags. */
const SEGMENT_WORDS = 6;
const SOURCE_IS_GRANT = 1;

/**
 * Carries out a copy batch by mapping, copying and unmapping each page, where the provider has no grant copy. The
 * local side of every segment must lie in `memory`, whose first byte has the address `base`.
 */
export function copyByMapping(grants: GrantTable, batch: GrantCopyBatch, memory: Uint8Array, base: number): number {
  for (let i = 0; i < batch.count; i++) batch.setStatus(i, copySegment(grants, batch.words, i, memory, base));
  return 0;
}

function copySegment(grants: GrantTable, words: Uint32Array, index: number, memory: Uint8Array, base: number): number {
  const at = index * SEGMENT_WORDS;
  const length = words[at + 4] & 0xffff;
  const fromGrant = ((words[at + 4] >>> 16) & SOURCE_IS_GRANT) !== 0;
  const [foreign, local] = fromGrant ? [at, at + 2] : [at + 2, at];
  const mapping = tryMap(grants, words[foreign + 1] >>> 16, words[foreign], { writable: !fromGrant });
  if (!mapping) return GrantStatus.badGntref;
  const start = mapping.offsets[0] + (words[foreign + 1] & 0xffff);
  const page = new Uint8Array(mapping.buffer, start, length);
  const offset = words[local] + words[local + 1] * 2 ** 32 - base;
  if (fromGrant) memory.set(page, offset);
  else page.set(memory.subarray(offset, offset + length));
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
