import type { Random } from '../program/random.js';

/** Values at the edges of fields of 1, 2, 4 and 8 bytes. */
const EDGES = [0n, 1n, 2n, 127n, 128n, 255n, 256n, 4095n, 4096n, 4097n, 65535n, 65536n, 0x7fffffffn, 0x80000000n];
const HIGH_EDGES = [
  0xffffffffn,
  0x100000000n,
  0x1fffffffffffffn,
  0x20000000000000n,
  0x7fffffffffffffffn,
  2n ** 64n - 1n,
];
const ALL_EDGES = [...EDGES, ...HIGH_EDGES];
const WIDTHS = [1, 2, 4, 8];
const MOST_BYTES = 1 << 16;

/** Parts of messages, in an order that a peer may send or not. */
export type Parts = readonly Buffer[];

/**
 * Another input from those of the corpus: whole parts are left out, repeated, moved, or taken from another input; fields
 * get the values at their edges; bytes are flipped, inserted, removed; the end is cut off.
 */
export function mutate(random: Random, corpus: readonly Parts[]): Buffer {
  const parts = [...random.pick(corpus)];
  for (let times = random.below(4); times > 0; times--) changeParts(random, parts, corpus);
  let bytes: Buffer = Buffer.concat(parts);
  for (let times = random.below(5); times > 0 && bytes.length > 0; times--) bytes = changeBytes(random, bytes);
  return bytes.subarray(0, MOST_BYTES);
}

function changeParts(random: Random, parts: Buffer[], corpus: readonly Parts[]): void {
  const at = random.below(parts.length + 1);
  const change = random.weighted({ remove: 1, repeat: 1, foreign: 2, swap: 1 });
  if (change === 'foreign') parts.splice(at, 0, random.pick(random.pick(corpus)));
  if (change === 'remove') parts.splice(at, 1);
  if (change === 'repeat' && parts[at]) parts.splice(at, 0, ...Array(random.from(1, 20)).fill(parts[at]));
  if (change === 'swap' && parts.length > 1) parts.push(...parts.splice(at, 1));
}

function changeBytes(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length);
  switch (random.weighted({ edge: 6, near: 2, flip: 2, insert: 1, remove: 1, cut: 1 })) {
    case 'edge':
      return withField(random, bytes, at, random.pick(ALL_EDGES));
    case 'near':
      return withField(random, bytes, at, BigInt(random.below(64)));
    case 'flip': {
      const flipped = Buffer.from(bytes);
      flipped[at] ^= 1 << random.below(8);
      return flipped;
    }
    case 'insert':
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(random.from(1, 300), random.below(256)),
        bytes.subarray(at),
      ]);
    case 'remove':
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.from(1, 16))]);
    case 'cut':
      return bytes.subarray(0, at);
  }
}

/** Fields of the protocols lie at multiples of 2 bytes, in either order. */
function withField(random: Random, bytes: Buffer, near: number, value: bigint): Buffer {
  const width = random.pick(WIDTHS);
  const at = Math.min(near & ~1, bytes.length - width);
  const changed = Buffer.from(bytes);
  if (at < 0) return changed;
  for (let i = 0; i < width; i++) changed[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  if (random.oneIn(2)) changed.subarray(at, at + width).reverse();
  return changed;
}

/** The bytes in pieces of any length, as a stream may have them. */
export function cut(random: Random, bytes: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  const most = random.pick([1, 3, 40, 5000]);
  for (let at = 0; at < bytes.length; ) {
    const end = at + random.from(1, most);
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}
