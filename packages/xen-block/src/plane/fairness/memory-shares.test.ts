import { describe, expect, it } from 'vitest';
import { RingCounters } from '../accounting/ring-counters.js';
import type { BlockRing } from '../rings/ring.js';
import { DataMemory, guaranteeOf } from '../transfer/data-memory.js';
import { MemoryShares } from './memory-shares.js';
import { Sharers } from './sharers.js';

const MIB = 1024 * 1024;
const SEGMENTS = 256;

function setting() {
  const memory = new DataMemory({ register: () => 0 } as never, 32 * MIB);
  const sharers = new Sharers();
  const shares = new MemoryShares(memory, sharers);
  let index = 0;
  const open = (domid: number, disk: string, segments = SEGMENTS): BlockRing => {
    const ring = { index: index++, domid, disk, counters: new RingCounters() } as unknown as BlockRing;
    sharers.open(ring, guaranteeOf(segments));
    shares.open(ring);
    return ring;
  };
  /** Takes runs of so many bytes until there is none; returns how many. */
  const takeAll = (ring: BlockRing, bytes: number): number[] => {
    const places: number[] = [];
    for (let at = shares.take(ring, bytes); at >= 0; at = shares.take(ring, bytes)) places.push(at);
    expect(shares.broken).toBeUndefined();
    return places;
  };
  /** Each takes a run in turn, until none gets one; returns their bytes. */
  const takeInTurn = (rings: BlockRing[], bytes: number): number[] => {
    for (let more = true; more; ) more = rings.filter((ring) => shares.take(ring, bytes) >= 0).length > 0;
    return rings.map((ring) => shares.heldBy(ring));
  };
  return { memory, sharers, shares, open, takeAll, takeInTurn };
}

describe('the cap', () => {
  it.each([1, 2, 3, 7])('lets %i guests that want everything have equal parts, and leaves one', (count) => {
    const { open, takeInTurn } = setting();
    const held = takeInTurn(
      Array.from({ length: count }, (_, i) => open(i + 1, `disk${i}`)),
      64 * 1024,
    );
    const part = (32 * MIB) / (count + 1);
    for (const bytes of held) expect(Math.abs(bytes - part)).toBeLessThanOrEqual(128 * 1024);
  });

  it('leaves a third of the memory to others, whatever disks a guest has', () => {
    const { memory, open, takeInTurn } = setting();
    takeInTurn(
      Array.from({ length: 16 }, (_, i) => open(1, `disk${i}`)),
      64 * 1024,
    );
    expect(memory.pool.freeBytes).toBeGreaterThan((32 * MIB) / 3 - 128 * 1024);
  });

  it('gives all rings of a disk together what one would have', () => {
    const { shares, open, takeInTurn } = setting();
    const rings = Array.from({ length: 4 }, () => open(1, 'disk'));
    takeInTurn(rings, 64 * 1024);
    expect(shares.heldBy(rings[0])).toBeLessThanOrEqual(16 * MIB);
  });

  it('leaves half of what is left to whoever comes next', () => {
    const { shares, open, takeAll } = setting();
    for (const part of [16, 8, 4]) {
      const ring = open(part, `disk${part}`);
      takeAll(ring, 4096);
      expect(shares.heldBy(ring)).toBeLessThanOrEqual(part * MIB);
      expect(shares.heldBy(ring)).toBeGreaterThan(part * MIB - 64 * 1024);
    }
  });
});

describe('the guarantee', () => {
  it('holds for 200 disks at once that want everything, and for small requests of hundreds more', () => {
    const { shares, open } = setting();
    for (let i = 0; i < 200; i++) {
      const ring = open(i + 1, `disk${i}`);
      while (shares.take(ring, MIB) >= 0);
      expect(shares.heldBy(ring)).toBeGreaterThanOrEqual(MIB);
    }
    for (let i = 200; i < 800; i++) expect(shares.take(open(i, `disk${i}`), 4096)).toBeGreaterThanOrEqual(0);
  });

  it('is for the largest request of all rings of the disk', () => {
    const { shares, open } = setting();
    open(1, 'disk', 0);
    expect(shares.take(open(1, 'disk', 4096), 16 * MIB)).toBeGreaterThanOrEqual(0);
  });

  it('reserves nothing for a disk that is idle, and all memory comes back', () => {
    const { memory, sharers, shares, open, takeAll } = setting();
    const rings = Array.from({ length: 1000 }, (_, i) => open(i, `disk${i}`));
    expect(memory.usedBytes).toBe(0);
    const [first, second] = rings;
    const places = [...takeAll(first, MIB), ...takeAll(first, 4096)];
    const others = takeAll(second, MIB);
    for (const place of places) shares.give(first, place);
    for (const place of others) shares.give(second, place);
    expect([memory.usedBytes, shares.broken]).toEqual([0, undefined]);
    expect(takeAll(first, MIB)).toHaveLength(16);
    for (const ring of rings) if (ring !== first) sharers.close(ring);
    expect(sharers.alone).toBe(true);
  });
});

describe('a request that was refused', () => {
  it('is not tried again before something was given back that it may have', () => {
    const { shares, open, takeAll } = setting();
    const [hungry, other] = [open(1, 'hungry'), open(2, 'other')];
    const places = takeAll(hungry, MIB);
    const small = shares.take(other, 4096);
    shares.refused(hungry);
    expect(shares.mayTry(hungry)).toBe(false);
    const another = shares.take(other, 4096);
    shares.give(other, another);
    expect(shares.mayTry(hungry)).toBe(false);
    shares.give(other, small);
    expect(shares.mayTry(hungry)).toBe(true);
    shares.refused(hungry);
    shares.give(hungry, places[0]);
    expect(shares.mayTry(hungry)).toBe(true);
    shares.accepted(hungry);
    expect(shares.mayTry(hungry)).toBe(true);
  });
});
