/**
 * What an entry's word of tries says, in its lower half: lives that have recovered it, strikes, and whether our own code
 * works on it now. Its upper half is the complement, so that a damaged word counts for nothing.
 */

/** How often a request was recovered. */
export interface Tries {
  /** Processes that began to carry it out again, this one among them. */
  readonly lives: number;
  /** Those of them that died while their own code worked on it. */
  readonly strikes: number;
}

const WORKING = 1;
const STRIKES = { shift: 1, most: 7 };
const LIVES = { shift: 4, most: 255 };

/** The tries of the next life, and their word. */
export function nextLife(word: number): [tries: Tries, word: number] {
  const value = tried(word);
  const struck = (value & WORKING) === WORKING ? 1 : 0;
  const strikes = Math.min(((value >> STRIKES.shift) & STRIKES.most) + struck, STRIKES.most);
  const lives = Math.min(((value >> LIVES.shift) & LIVES.most) + 1, LIVES.most);
  return [{ lives, strikes }, wordOf((lives << LIVES.shift) | (strikes << STRIKES.shift))];
}

export function working(word: number, works: 'works' | 'rests'): number {
  const value = tried(word);
  return wordOf(works === 'works' ? value | WORKING : value & ~WORKING);
}

function tried(word: number): number {
  const value = word & 0xffff;
  return word >>> 16 === (~value & 0xffff) ? value : 0;
}

function wordOf(value: number): number {
  return value | (~value << 16);
}
