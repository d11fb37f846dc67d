import type { GrantCopyBatch, GrantMapping, GrantTable } from '@xenpv/xen-sys';
import { inGrantTable, segmentsOf } from './hypervisor.js';
import type { Planted } from './planted.js';

const SECTOR = 512;

/**
 * A backend that checks a list of segments, and reads it once more when it copies the data: what the guest has changed
 * meanwhile is not checked.
 */
export function readTwice(): Planted {
  return inGrantTable((inner) => {
    const lists = new Map<number, GrantMapping>();
    return {
      copy: (batch: GrantCopyBatch) => {
        for (const segment of segmentsOf(batch)) {
          const isList = segment.direction === 'fromGuest' && segment.offset === 0 && segment.length % SECTOR !== 0;
          if (isList && !lists.has(segment.ref)) keep(inner, lists, segment);
          else if (!isList) readAgain(lists, segment);
        }
        return inner.copy(batch);
      },
      unmap: (mapping: GrantMapping) => {
        for (const list of lists.values()) inner.unmap(list);
        lists.clear();
        inner.unmap(mapping);
      },
    };
  });
}

function keep(inner: GrantTable, lists: Map<number, GrantMapping>, { domid, ref }: Segment): void {
  try {
    lists.set(ref, inner.map(domid, Uint32Array.of(ref), { writable: false }));
  } catch {
    // One of the bad ones.
  }
}

type Segment = ReturnType<typeof segmentsOf>[number];

/** The place in its page that the list says now, for a page that it has. */
function readAgain(lists: ReadonlyMap<number, GrantMapping>, segment: Segment): void {
  for (const { buffer, offsets } of lists.values()) {
    const words = new Int32Array(buffer, offsets[0], 1024);
    for (let at = 0; at < 128; at += 2) {
      if (words[at] !== segment.ref) continue;
      const first = words[at + 1] & 0xff;
      const last = (words[at + 1] >>> 8) & 0xff;
      if (last < 8 && first <= last) {
        segment.change({ offset: first * SECTOR, length: (last - first + 1) * SECTOR });
      }
      return;
    }
  }
}
