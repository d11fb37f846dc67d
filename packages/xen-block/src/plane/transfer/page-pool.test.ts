import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PagePool } from './page-pool.js';

const PAGE = 4096;

test('runs are aligned, disjoint, and all memory comes back whole', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 * PAGE })), { maxLength: 300 }),
      (steps) => {
        const pool = new PagePool(64 * PAGE, () => {});
        const held: { at: number; pages: number }[] = [];
        for (const [take, bytes] of steps) {
          if (!take && held.length > 0) {
            pool.give(held.splice(bytes % held.length, 1)[0].at);
            continue;
          }
          const at = pool.take(bytes, bytes % 3);
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
        expect(pool.take(pool.bytes, 0)).toBe(0);
      },
    ),
  );
});

test('what was not taken cannot be given back', () => {
  const pool = new PagePool(4 * PAGE, () => {});
  expect(() => pool.give(0)).toThrow(RangeError);
  pool.give(pool.take(1, 0));
  expect(() => pool.give(0)).toThrow(RangeError);
});

test('one byte too many is refused', () => {
  const pool = new PagePool(4 * PAGE, () => {});
  expect(pool.take(4 * PAGE + 1, 0)).toBe(-1);
  expect(pool.take(4 * PAGE, 0)).toBe(0);
  expect(pool.take(1, 0)).toBe(-1);
});

test('no guest gets a page with another guest’s bytes in it, whatever is taken, given back and forgotten', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.integer({ min: 0, max: 9 }),
          fc.integer({ min: 0, max: 3 }),
          fc.integer({ min: 1, max: 20 * PAGE }),
        ),
        { maxLength: 200 },
      ),
      (steps) => {
        const memory = new Uint8Array(32 * PAGE);
        const pool = new PagePool(memory.length, (at, bytes) => memory.fill(0, at, at + bytes));
        const numbers = [1, 2, 3, 4];
        let next = 5;
        const held: { at: number; guest: number }[] = [];
        for (const [what, who, bytes] of steps) {
          if (what < 3 && held.length > 0) pool.give(held.splice(bytes % held.length, 1)[0].at);
          else if (what === 9) {
            pool.forget(numbers[who]);
            numbers[who] = next++;
          } else {
            const at = pool.take(bytes, numbers[who]);
            if (at < 0) continue;
            const run = memory.subarray(at, at + Math.ceil(bytes / PAGE) * PAGE);
            expect(run.find((byte) => byte !== 0 && byte !== numbers[who])).toBe(undefined);
            run.fill(numbers[who]);
            held.push({ at, guest: numbers[who] });
          }
        }
        for (const { at } of held) pool.give(at);
        expect(pool.freeBytes).toBe(pool.bytes);
        expect(pool.take(pool.bytes, next)).toBe(0);
        expect(memory.every((byte) => byte === 0) || steps.length === 0).toBe(true);
      },
    ),
  );
});

test('two guests in turns keep their own pages: nothing is cleared', () => {
  let cleared = 0;
  const pool = new PagePool(64 * PAGE, () => cleared++);
  for (let i = 0; i < 100; i++) {
    const guest = i % 2;
    const [small, large] = [pool.take(PAGE, guest), pool.take(8 * PAGE, guest)];
    pool.give(small);
    pool.give(large);
  }
  expect(cleared).toBe(0);
});
