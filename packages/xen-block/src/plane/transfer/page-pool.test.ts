import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PagePool } from './page-pool.js';

const PAGE = 4096;

test('runs are aligned, disjoint, and all memory comes back whole', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 * PAGE })), { maxLength: 300 }),
      (steps) => {
        const pool = new PagePool(64 * PAGE);
        const held: { at: number; pages: number }[] = [];
        for (const [take, bytes] of steps) {
          if (!take && held.length > 0) {
            pool.give(held.splice(bytes % held.length, 1)[0].at);
            continue;
          }
          const at = pool.take(bytes);
          if (at < 0) continue;
          const pages = Math.ceil(bytes / PAGE);
          expect(at % PAGE).toBe(0);
          expect(at + pages * PAGE).toBeLessThanOrEqual(pool.bytes);
          for (const other of held) {
            expect(at >= other.at + other.pages * PAGE || other.at >= at + pages * PAGE).toBe(true);
          }
          held.push({ at, pages });
        }
        for (const run of held) pool.give(run.at);
        expect(pool.freeBytes).toBe(pool.bytes);
        expect(pool.take(pool.bytes)).toBe(0);
      },
    ),
  );
});

test('what was not taken cannot be given back', () => {
  const pool = new PagePool(4 * PAGE);
  expect(() => pool.give(0)).toThrow(RangeError);
  pool.give(pool.take(1));
  expect(() => pool.give(0)).toThrow(RangeError);
});

test('one byte too many is refused', () => {
  const pool = new PagePool(4 * PAGE);
  expect(pool.take(4 * PAGE + 1)).toBe(-1);
  expect(pool.take(4 * PAGE)).toBe(0);
  expect(pool.take(1)).toBe(-1);
});
