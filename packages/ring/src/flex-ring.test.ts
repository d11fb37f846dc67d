import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeFlexRing, FlexRing, flexRingSize, initFlexRing } from './index.js';

const WORD = { inCons: 0, inProd: 1, outCons: 16, outProd: 17, order: 32, refs: 33 } as const;

function pair(order = 1, at = 0) {
  const intf = new Uint8Array(4096);
  const data = new Uint8Array(4096 << order);
  const words = new Int32Array(intf.buffer);
  initFlexRing(intf, order, [7, 8].slice(0, 2 ** order));
  for (const word of [WORD.inCons, WORD.inProd, WORD.outCons, WORD.outProd]) words[word] = at | 0;
  return { words, data, front: new FlexRing(intf, data, 'front'), back: new FlexRing(intf, data, 'back') };
}

describe('layout', () => {
  it('has half of the data pages each way', () => {
    expect([0, 1, 9].map(flexRingSize)).toEqual([2048, 4096, 2 ** 20]);
    expect(pair(1).front.size).toBe(4096);
  });

  it('has `in` first, indices a cache line apart, the order and the references behind', () => {
    const { words, data, front, back } = pair();
    expect(back.write(Uint8Array.of(1, 2, 3))).toBe(3);
    expect(front.write(Uint8Array.of(4, 5))).toBe(2);
    expect([...data.subarray(0, 4)]).toEqual([1, 2, 3, 0]);
    expect([...data.subarray(4096, 4099)]).toEqual([4, 5, 0]);
    expect([WORD.inProd, WORD.outProd, WORD.order, WORD.refs, WORD.refs + 1].map((word) => words[word])).toEqual([
      3, 2, 1, 7, 8,
    ]);
    expect(describeFlexRing(words, 1)).toEqual({ order: 1, refs: Uint32Array.of(7, 8) });
  });

  it.each([2, 30, -1, 2 ** 31 - 1])('refuses an order of %i above the maximum or the page', (order) => {
    const { words } = pair();
    words[WORD.order] = order;
    expect(describeFlexRing(words, 1)).toBeUndefined();
    if (order > 9) expect(describeFlexRing(words, 2 ** 32)).toBeUndefined();
  });

  it('refuses memory that it cannot be in', () => {
    const page = new Uint8Array(4096);
    const wrong = expect.objectContaining({ code: 'ERR_RING_MEMORY' });
    expect(() => new FlexRing(page.subarray(1), page, 'back')).toThrow(wrong);
    expect(() => new FlexRing(page.subarray(0, 64), page, 'back')).toThrow(wrong);
    expect(() => new FlexRing(page, page.subarray(0, 4095), 'back')).toThrow(wrong);
    expect(() => new FlexRing(page, page.subarray(0, 1), 'back')).toThrow(wrong);
  });
});

describe('hostile indices', () => {
  it.each([4097, 2 ** 31, -1])('%i bytes ahead is -1, never a copy out of bounds', (ahead) => {
    const { words, front, back } = pair();
    words[WORD.outProd] = ahead;
    words[WORD.inProd] = ahead;
    expect([back.readable, back.read(new Uint8Array(8))]).toEqual([-1, -1]);
    expect([back.writable, back.write(new Uint8Array(8))]).toEqual([-1, -1]);
    expect([front.readable, front.writable]).toEqual([-1, -1]);
  });
});

it('is two streams, across 2^32 and full', () => {
  const u32 = fc.oneof(fc.constant(0), fc.integer({ min: 2 ** 32 - 5000, max: 2 ** 32 - 1 }));
  const step = fc.record({
    end: fc.constantFrom('front' as const, 'back' as const),
    write: fc.nat(3000),
    read: fc.nat(3000),
  });
  fc.assert(
    fc.property(u32, fc.constantFrom(0, 1), fc.array(step, { maxLength: 30, size: 'max' }), (at, order, steps) => {
      const ends = pair(order, at);
      const peers = { front: 'back', back: 'front' } as const;
      const flight: Record<'front' | 'back', number[]> = { front: [], back: [] };
      let byte = 0;
      for (const { end, write, read } of steps) {
        const source = Uint8Array.from({ length: write }, () => byte++);
        const room = ends[end].writable;
        const written = ends[end].write(source);
        expect(written).toBe(Math.min(room, write));
        flight[end].push(...source.subarray(0, written));
        byte -= write - written;
        const target = new Uint8Array(read);
        const got = ends[end].read(target);
        const expected = flight[peers[end]].splice(0, read);
        expect([...target.subarray(0, got)]).toEqual(expected);
        expect(ends[end].writable + flight[end].length).toBe(ends[end].size);
      }
    }),
    { numRuns: 50 },
  );
});
