import { type ClassStatistics, type DiskStatistics, RingCounters, readStatistics } from '@xenpv/xen-block';
import { expect, it } from 'vitest';
import { XENTOP_FIGURES_BYTES, xentopFigures } from './xentop-figures.js';

function statistics(changes: Partial<Record<'read' | 'write', Partial<ClassStatistics>>>, starved = 0): DiskStatistics {
  const none = readStatistics([new RingCounters().buffer]);
  return {
    ...none,
    starved,
    read: { ...none.read, ...changes.read },
    write: { ...none.write, ...changes.write },
  };
}

it('are the bytes that libxenstat reads', () => {
  const figures = xentopFigures(
    statistics(
      {
        read: { operations: 3, failed: 1, bytes: 3 * 4096, totalTimeNs: 5_000_000 },
        write: { operations: 0x1_0000_0001, failed: 0, bytes: 512, totalTimeNs: 1500 },
      },
      7,
    ),
  );
  const words = [
    '0100000000000000', // Version 1, padding.
    '0700000000000000', // Out of buffers.
    '0400000000000000', // Reads submitted, completed, sectors, microseconds.
    '0400000000000000',
    '1800000000000000',
    '8813000000000000',
    '0100000001000000', // Writes.
    '0100000001000000',
    '0100000000000000',
    '0200000000000000',
    '0100000000000000', // Errors.
    '0000000000000000', // Flags.
  ];
  expect(figures.toString('hex')).toBe(words.join(''));
  expect(figures).toHaveLength(XENTOP_FIGURES_BYTES);
});

it('of a disk that has done nothing have a version only', () => {
  expect(xentopFigures(statistics({})).toString('hex')).toBe(`01${'00'.repeat(95)}`);
});
