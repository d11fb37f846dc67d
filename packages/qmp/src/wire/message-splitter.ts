import { QmpError } from '../errors.js';

/** Deeper objects are refused, as QEMU does. */
const MOST_DEPTH = 1024;

/** What a stream is made of: the text of an object, or what is none, up to the end of its line. */
export type Piece = { readonly object: string } | { readonly garbage: string };

/**
 * Cuts a stream of characters into JSON objects. An object may be spread over lines, and a line may have several: people
 * type them, and QEMU takes them so. What stands between objects and is no white space is garbage.
 */
export class MessageSplitter {
  readonly #most: number;
  /** Of the object, or of the garbage, that has begun. */
  #text = '';
  #depth = 0;
  #inString = false;
  #escaped = false;
  #inGarbage = false;

  /** `most`: characters of one object. */
  constructor(most: number) {
    this.#most = most;
  }

  /**
   * The pieces that are whole now, each as soon as it is found: what comes before one that is refused counts, however the
   * stream is cut. To be read to its end before the next chunk. Error: ERR_PROTOCOL, one is too long or too deep; the
   * splitter is of no use then.
   */
  *push(chunk: string): Generator<Piece, void> {
    let begin = 0;
    for (let at = 0; at < chunk.length; at++) {
      const character = chunk[at];
      if (this.#isBetween) {
        if (isSpace(character)) continue;
        begin = at;
        if (character === '{') this.#depth = 1;
        else this.#inGarbage = true;
        continue;
      }
      if (!this.#ends(character)) continue;
      const text = this.#text + chunk.slice(begin, at + 1);
      this.#text = '';
      this.#check(text.length);
      const piece = this.#inGarbage ? { garbage: text.trimEnd() } : { object: text };
      this.#inGarbage = false;
      yield piece;
    }
    if (this.#isBetween) return;
    this.#text += chunk.slice(begin);
    this.#check(this.#text.length);
  }

  get #isBetween(): boolean {
    return this.#depth === 0 && !this.#inGarbage;
  }

  /** Whether the object or the garbage ends with this character. */
  #ends(character: string): boolean {
    if (this.#inGarbage) return character === '\n';
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (character === '"') this.#inString = true;
    else if (character === '{' || character === '[') this.#deeper();
    else if (character === '}' || character === ']') this.#depth--;
    return this.#depth === 0;
  }

  #deeper(): void {
    if (++this.#depth > MOST_DEPTH)
      throw new QmpError('ERR_PROTOCOL', 'receive', `JSON is deeper than ${MOST_DEPTH} levels`);
  }

  #check(length: number): void {
    if (length > this.#most)
      throw new QmpError('ERR_PROTOCOL', 'receive', `a message is longer than ${this.#most} characters`);
  }
}

function isSpace(character: string): boolean {
  return character === '\n' || character === ' ' || character === '\r' || character === '\t';
}
