import type { DiskStatistics } from '@xenpv/xen-block';

/** Whatever the disk's own sectors are. */
const SECTOR_BYTES = 512;
const VERSION = 1;
const HEAD_BYTES = 8;

/** Bytes of a disk's figures. */
export const XENTOP_FIGURES_BYTES = 96;

/**
 * A disk's figures as libxenstat reads them for disks of type vbd3 (since Xen 4.19), which has them from tapdisk: a version
 * and padding in 32 bits each, then eleven numbers of 64 bits, little endian.
 */
export function xentopFigures({ read, write, flush, discard, starved }: DiskStatistics): Buffer {
  const errors = [read, write, flush, discard].reduce((sum, { failed }) => sum + failed, 0);
  const numbers = [
    starved,
    ...[read, write].flatMap(({ operations, failed, bytes, totalTimeNs }) => {
      const ended = operations + failed;
      // Submitted, completed, sectors, microseconds.
      return [ended, ended, bytes / SECTOR_BYTES, totalTimeNs / 1000];
    }),
    errors,
    0,
  ];
  const figures = Buffer.alloc(XENTOP_FIGURES_BYTES);
  figures.writeUInt32LE(VERSION, 0);
  for (const [i, number] of numbers.entries()) figures.writeBigUInt64LE(BigInt(Math.round(number)), HEAD_BYTES + 8 * i);
  return figures;
}
