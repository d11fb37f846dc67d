import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { checkFree, markFree } from './free-frames.js';
import { type DomainMemory, Header } from './memory.js';

/** Frame 0 is never given out, so that a zero never names a page. */
const FIRST_FRAME = 1;

/** A memcpy of zeroes: 80 ns, where fill(0), which is atomic byte by byte in shared memory, takes 1150 ns. */
const ZEROES = Buffer.alloc(XEN_PAGE_SIZE);

/** The free frames of a domain: a bit each. To be called with the domain's lock held. */
export class Frames {
  readonly #memory: DomainMemory;

  constructor(memory: DomainMemory) {
    this.#memory = memory;
  }

  /** Takes `count` frames in a row, zeroed; returns the first, or -1 if there is no such run. */
  allocate(count: number): number {
    if (this.#memory.strict) return this.#allocateApart(count);
    const { control } = this.#memory;
    const hint = Math.max(control[Header.frameHint], FIRST_FRAME);
    let first = this.#findRun(hint, this.#memory.size.pages, count);
    if (first < 0 && hint > FIRST_FRAME) first = this.#findRun(FIRST_FRAME, this.#memory.size.pages, count);
    if (first < 0) return -1;
    for (let i = 0; i < count; i++) this.#take(first + i);
    control[Header.frameHint] = first + count;
    this.#zero(first, count);
    return first;
  }

  free(frame: number): void {
    this.#release(frame);
    // Strict: marked, and used again as late as may be.
    if (this.#memory.strict) markFree(this.#memory, frame);
    else if (frame < this.#memory.control[Header.frameHint]) this.#memory.control[Header.frameHint] = frame;
  }

  /** Whether `frame` is not in use. */
  isFree(frame: number): boolean {
    const { control, at } = this.#memory;
    return (control[at.frames + (frame >>> 5)] & (1 << (frame & 31))) === 0;
  }

  /** Looks at all frames that are free, of those that ever were used and the one after each. */
  checkFree(): void {
    const { control, size } = this.#memory;
    const end = Math.min(control[Header.framesTouched] + 1, size.pages);
    for (let frame = FIRST_FRAME; frame < end; frame++) if (this.isFree(frame)) checkFree(this.#memory, frame);
  }

  /** Frames with a free one before and behind them: what is written past the end of a page is found there. */
  #allocateApart(count: number): number {
    const { control, size } = this.#memory;
    const hint = Math.max(control[Header.frameHint], FIRST_FRAME);
    let before = this.#findRun(hint, size.pages, count + 2);
    if (before < 0 && hint > FIRST_FRAME) before = this.#findRun(FIRST_FRAME, size.pages, count + 2);
    if (before < 0) return -1;
    for (let i = 1; i <= count; i++) {
      checkFree(this.#memory, before + i);
      this.#take(before + i);
      this.#memory.views.page(before + i).fill(ZEROES);
    }
    control[Header.frameHint] = before + count + 1;
    control[Header.framesTouched] = Math.max(control[Header.framesTouched], before + count + 1);
    return before + 1;
  }

  /** Frames in use. */
  used(): number {
    const { control, at, size } = this.#memory;
    let used = 0;
    for (let word = at.frames; word < at.frames + Math.ceil(size.pages / 32); word++) {
      for (let bits = control[word]; bits !== 0; bits &= bits - 1) used++;
    }
    return used;
  }

  #findRun(from: number, end: number, count: number): number {
    const { control, at } = this.#memory;
    let run = 0;
    for (let frame = from; frame < end; frame++) {
      const bits = control[at.frames + (frame >>> 5)];
      if (bits === -1) {
        run = 0;
        frame |= 31;
      } else if ((bits & (1 << (frame & 31))) !== 0) {
        run = 0;
      } else if (++run === count) {
        return frame - count + 1;
      }
    }
    return -1;
  }

  #take(frame: number): void {
    const { control, at } = this.#memory;
    control[at.frames + (frame >>> 5)] |= 1 << (frame & 31);
  }

  #release(frame: number): void {
    const { control, at } = this.#memory;
    control[at.frames + (frame >>> 5)] &= ~(1 << (frame & 31));
  }

  /** Frames never given out are zero already, and stay untouched until somebody writes. */
  #zero(first: number, count: number): void {
    const { control, views } = this.#memory;
    const touched = control[Header.framesTouched];
    for (let frame = first; frame < Math.min(first + count, touched); frame++) views.page(frame).fill(ZEROES);
    control[Header.framesTouched] = Math.max(touched, first + count);
  }
}
