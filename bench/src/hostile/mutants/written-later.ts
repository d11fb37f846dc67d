import type { GrantMapping } from '@xenpv/xen-sys';
import { inGrantTable, segmentsOf } from './hypervisor.js';
import type { Planted } from './planted.js';

const TIMES = 40;

/** A backend that still has a page of a read when the ring is gone, and goes on writing to it for some milliseconds. */
export function writtenLater(): Planted {
  return inGrantTable((inner) => {
    const kept = new Map<number, GrantMapping>();
    return {
      copy: (batch) => {
        const result = inner.copy(batch);
        const read = segmentsOf(batch).find(({ direction }) => direction === 'toGuest');
        if (read && result === 0 && !kept.has(read.domid)) {
          kept.set(read.domid, inner.map(read.domid, Uint32Array.of(read.ref), { writable: true }));
        }
        return result;
      },
      unmap: (mapping) => {
        inner.unmap(mapping);
        const page = kept.get(mapping.domid);
        if (page) writeForAWhile(page, () => inner.unmap(page));
      },
    };
  });
}

function writeForAWhile({ buffer, offsets }: GrantMapping, ended: () => void): void {
  const bytes = new Uint8Array(buffer, offsets[0], 4096);
  let left = TIMES;
  const timer = setInterval(() => {
    bytes[100]++;
    if (--left > 0) return;
    clearInterval(timer);
    ended();
  }, 1);
}
