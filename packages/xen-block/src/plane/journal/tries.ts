/**
 * What an entry's word of tries says, in its lower half: lives that have recovered it, strikes, and whether our own code
 * works on it now. Its upper half is the complement, so that a damaged word counts for nothing.
 */

/** How often a request was recovered. */
export interface Tries {
  /** Processes that began to carry it out again. */
  readonly lives: number;
  /** Those of them that died while their own code worked on it. */
  readonly strikes: number;
}

const WORKING = 1;
const STRIKES = { shift: 1, most: 7 };
const LIVES = { shift: 4, most: 255 };

/** What the processes before this one have left. */
export function triesOf(word: number): Tries {
  const value = tried(word);
  const struck = (value & WORKING) === WORKING ? 1 : 0;
  const strikes = Math.min(((value >> STRIKES.shift) & STRIKES.most) + struck, STRIKES.most);
  return { lives: (value >> LIVES.shift) & LIVES.most, strikes };
}

/** The word when this process begins. */
export function nextLife(word: number): number {
  const { lives, strikes } = triesOf(word);
  return wordOf((Math.min(lives + 1, LIVES.most) << LIVES.shift) | (strikes << STRIKES.shift));
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
