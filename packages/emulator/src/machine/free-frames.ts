import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { type DomainMemory, Header } from './memory.js';

const ZEROES = Buffer.alloc(XEN_PAGE_SIZE);
/** What is in a frame that was freed. Whoever reads it through an old view sees that something is wrong. */
const FREED = Buffer.alloc(XEN_PAGE_SIZE, 0xdb);

/** Memory that was written to though nobody may use it. */
export interface MemoryMisuse {
  /** Whose memory it is. */
  readonly domid: number;
  /** The frame where it was found first, counted from 0 in the domain's RAM. */
  readonly frame: number;
  /** The first byte in that frame which is not as it was left: 0 to 4095. */
  readonly offset: number;
  /** How many frames were found so. */
  readonly count: number;
}

/** Marks a frame that nobody may use any more. */
export function markFree(memory: DomainMemory, frame: number): void {
  memory.views.page(frame).fill(FREED);
}

/** Notes when a free frame is neither as it was freed nor untouched, and marks it anew. */
export function checkFree(memory: DomainMemory, frame: number): void {
  const page = memory.views.page(frame);
  if (page.equals(ZEROES) || page.equals(FREED)) return;
  const { control } = memory;
  // What most of it is says what it was.
  const was = page.filter((byte) => byte === FREED[0]).length > XEN_PAGE_SIZE / 2 ? FREED : ZEROES;
  if (control[Header.misuses]++ === 0) {
    control[Header.misusedFrame] = frame;
    control[Header.misusedByte] = page.findIndex((byte, index) => byte !== was[index]);
  }
  markFree(memory, frame);
}

/** What was found in a domain's memory until now. */
export function misuseOf({ control, domid }: DomainMemory): MemoryMisuse | undefined {
  const count = control[Header.misuses];
  if (count === 0) return undefined;
  return { domid, frame: control[Header.misusedFrame], offset: control[Header.misusedByte], count };
}
