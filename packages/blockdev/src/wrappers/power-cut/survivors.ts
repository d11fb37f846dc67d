import type { CachedChange } from './write-cache.js';

/** A run of whole sectors of one change. */
export interface Survivor {
  readonly change: CachedChange;
  /** Bytes from the change's beginning. */
  readonly from: number;
  readonly length: number;
}

/**
 * What of the changes reaches the medium when the power is cut: each of them whole, in some of its sectors, or not at
 * all. The same for the same seed.
 */
export function* survivors(changes: readonly CachedChange[], sectorSize: number, seed: number): Generator<Survivor> {
  const random = randomFrom(seed);
  for (const change of changes) {
    const fate = random() % 3;
    if (fate === 0) continue;
    if (fate === 1) yield { change, from: 0, length: change.length };
    else yield* torn(change, sectorSize, random);
  }
}

function* torn(change: CachedChange, sectorSize: number, random: () => number): Generator<Survivor> {
  const sectors = change.length / sectorSize;
  if (!change.data) {
    // It may be of the whole disk: its beginning is done.
    const length = (random() % sectors) * sectorSize;
    if (length > 0) yield { change, from: 0, length };
    return;
  }
  for (let sector = 0; sector < sectors; sector++) {
    if (random() % 2 === 0) yield { change, from: sector * sectorSize, length: sectorSize };
  }
}

/** 32-bit numbers, the same for the same seed (splitmix32). */
function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
}
