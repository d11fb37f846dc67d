import { describe, expect, it } from 'vitest';
import type { BlockRing } from '../rings/ring.js';
import { Sharers } from './sharers.js';
import { Turns } from './turns.js';

const LARGE = 1024 * 1024;
const LONG = 32 * 1024;
const SHORT = 8 * 1024;

/** Guests with a disk each. */
function world(count: number) {
  const sharers = new Sharers();
  const guests = Array.from({ length: count }, (_, index) => {
    const ring = { index, disk: `disk-${index}`, domid: index + 1 } as BlockRing;
    sharers.open(ring, LARGE);
    return sharers.guestOf(ring);
  });
  return { turns: new Turns(sharers), guests };
}

describe('a slice of a large request', () => {
  it('is long while no other guest has small ones', () => {
    const { turns, guests } = world(2);
    for (const guest of guests) turns.spend(guest, LARGE);
    expect(guests.map((guest) => turns.takeSlice(guest))).toEqual([LONG, LONG]);
  });

  it('is short while another guest has small ones, also when it has some itself', () => {
    const { turns, guests } = world(3);
    const [large, small] = guests;
    turns.spend(small, 4096);
    turns.spend(large, LARGE);
    expect(turns.takeSlice(large)).toBe(SHORT);
    turns.spend(large, 4096);
    turns.spend(large, 4096);
    expect(turns.takeSlice(large)).toBe(SHORT);
  });

  it('is long for the only guest that has small ones', () => {
    const { turns, guests } = world(2);
    turns.spend(guests[0], 4096);
    turns.spend(guests[0], LARGE);
    expect(turns.takeSlice(guests[0])).toBe(LONG);
  });

  it('is long again when the other guest has had none for long', () => {
    const { turns, guests } = world(2);
    const [large, small] = guests;
    turns.spend(small, 4096);
    for (let turn = 0; turn < 4095; turn++) turns.begin();
    expect(turns.takeSlice(large)).toBe(SHORT);
    turns.begin();
    expect(turns.takeSlice(large)).toBe(LONG);
    // A large request of its own says nothing of the other.
    turns.spend(large, 4096);
    expect(turns.takeSlice(large)).toBe(LONG);
    turns.spend(small, 0);
    expect(turns.takeSlice(large)).toBe(SHORT);
  });
});
