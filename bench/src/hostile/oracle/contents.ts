import { Random } from '../../program/random.js';

export const SECTOR = 512;
export const PAGE = 4096;
export const PLACES = PAGE / SECTOR;

/** Words of a sector, and so what the content of the next sector of a run is further. */
export const NEXT = SECTOR / 4;
const TABLE_BYTES = 2 ** 20;
const RUN_BYTES = PAGE;

/** The content of a sector that nobody knows. */
export const ANY = 0xffffffff;

/** The same in every thread. */
const table = Buffer.alloc(TABLE_BYTES + RUN_BYTES);
const random = new Random(0x7ab1e);
for (let i = 0; i < table.length; i += 4) table.writeUInt32LE(random.below(2 ** 32), i);
const zeroes = Buffer.alloc(RUN_BYTES);

/**
 * The content of a sector is a number: 0 is zeroes, another one a place in a table of chance. Up to 8 sectors whose
 * contents are a run, each `NEXT` more than the one before, are written and compared at once.
 */
export function drawRun(from: Random): number {
  return 1 + from.below(TABLE_BYTES / 4);
}

/** Puts a run of contents. */
export function putRun(bytes: Buffer, at: number, content: number, sectors: number): void {
  if (content === 0) zeroes.copy(bytes, at, 0, sectors * SECTOR);
  else table.copy(bytes, at, (content - 1) * 4, (content - 1) * 4 + sectors * SECTOR);
}

/** Whether a run of contents is there. */
export function hasRun(bytes: Buffer, at: number, content: number, sectors: number): boolean {
  const length = sectors * SECTOR;
  if (content === 0) return bytes.compare(zeroes, 0, length, at, at + length) === 0;
  const from = (content - 1) * 4;
  return bytes.compare(table, from, from + length, at, at + length) === 0;
}

/** How many of the contents from `at` on, of at most `most`, are one run. */
export function runLength(contents: Uint32Array, at: number, most: number): number {
  const first = contents[at];
  const step = first === 0 ? 0 : NEXT;
  let count = 1;
  while (count < most && contents[at + count] === first + count * step) count++;
  return count;
}
