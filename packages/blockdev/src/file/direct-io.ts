import { constants, read } from 'node:fs';
import { promisify } from 'node:util';
import { optionalAddon } from '../addon.js';
import { allocateMemory, PAGE_BYTES } from '../queue/buffer.js';
import type { StorageFacts } from './probe.js';

const readAt = promisify(read);

/** What is added to the flags of an open for direct input and output. */
export const DIRECT_FLAG = constants.O_DIRECT ?? 0;

/**
 * Whether O_DIRECT takes whole sectors: what statx says (Linux 6.1), or else whether a read of one, in the middle of a
 * block and of a page, works. `fd` must be open with O_DIRECT.
 */
export async function directWorks(fd: number, facts: StorageFacts, sectorSize: number): Promise<boolean> {
  const alignments = new Float64Array(2);
  if (optionalAddon()?.directAlignment(fd, alignments) === 0) {
    const [memory, offset] = alignments;
    return memory > 0 && memory <= PAGE_BYTES && offset > 0 && offset <= sectorSize;
  }
  if (facts.size < 2 * sectorSize) return false;
  const bytes = new Uint8Array(allocateMemory(2 * PAGE_BYTES));
  try {
    const { bytesRead } = await readAt(fd, bytes, sectorSize, sectorSize, sectorSize);
    return bytesRead === sectorSize;
  } catch {
    return false;
  }
}
