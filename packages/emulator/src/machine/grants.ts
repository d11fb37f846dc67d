import { GrantStatus } from '@xenpv/xen-sys';
import { Frames } from './frames.js';
import { SharedLock } from './lock.js';
import { type DomainMemory, GRANT_WORDS, Header } from './memory.js';

/** References 0 to 7 are the toolstack's (GNTTAB_NR_RESERVED_ENTRIES). */
const RESERVED_GRANTS = 8;

/** The first word of an entry: whom it is for, three flags, and how often it is in use. */
export const GrantWord = {
  domid: 0x7fff,
  valid: 1 << 15,
  readOnly: 1 << 16,
  /** To be freed when nobody uses it any more. */
  ending: 1 << 17,
} as const;

const { domid: DOMID, valid: VALID, readOnly: READ_ONLY, ending: ENDING } = GrantWord;
const PIN = 1 << 18;
const PIN_SHIFT = 18;
const MAX_PINS = (1 << 14) - 1;

const FRAME = 1;
const NEXT_FREE = 2;

/**
 * The grant table of a domain. The granting side takes the domain's lock; the granted side only compares and swaps
 * the entry's first word: whom it is for, how, and how often it is in use.
 */
export class Grants {
  readonly memory: DomainMemory;
  readonly #frames: Frames;
  readonly #lock: SharedLock;
  readonly #isHeld: (ref: number) => boolean;

  /** `isHeld` says whether a page is in use in a way that its entry does not count. */
  constructor(memory: DomainMemory, isHeld: (ref: number) => boolean = () => false) {
    this.memory = memory;
    this.#isHeld = isHeld;
    this.#frames = new Frames(memory);
    this.#lock = new SharedLock(memory.control, Header.lock);
  }

  /**
   * Allocates `refs.length` zeroed frames in a row, grants them to `domid` and fills in the references. Returns the
   * first frame, -1 if there are no such frames, -2 if there are not enough references.
   */
  grantNew(domid: number, refs: Uint32Array, options: { writable: boolean }): number {
    const flags = options.writable ? VALID : VALID | READ_ONLY;
    return this.#lock.run(() => {
      if (this.#freeEntries() < refs.length) return -2;
      const first = this.#frames.allocate(refs.length);
      if (first < 0) return -1;
      for (let i = 0; i < refs.length; i++) {
        const ref = this.#takeEntry();
        const at = this.#at(ref);
        this.memory.control[at + FRAME] = first + i;
        Atomics.store(this.memory.control, at, domid | flags);
        refs[i] = ref;
      }
      return first;
    });
  }

  /** Ends the grant. Its frame and reference are freed now, or when the last user lets go. Harmless when repeated. */
  end(ref: number): void {
    const at = this.#at(ref);
    const { control } = this.memory;
    for (;;) {
      const word = Atomics.load(control, at);
      if ((word & VALID) === 0) return;
      if (Atomics.compareExchange(control, at, word, (word & ~VALID) | ENDING) !== word) continue;
      this.freeEnded(ref);
      return;
    }
  }

  /** Frees a grant that was ended, once nobody uses it. One caller of several does. */
  freeEnded(ref: number): void {
    const at = this.#at(ref);
    const word = Atomics.load(this.memory.control, at);
    if ((word & ENDING) === 0 || word >>> PIN_SHIFT !== 0 || this.#isHeld(ref)) return;
    if (Atomics.compareExchange(this.memory.control, at, word, word & ~ENDING) === word) this.#free(ref);
  }

  /** Takes the page into use for `domid`, to be read: returns its frame, or a negative {@link GrantStatus}. */
  pinToRead(ref: number, domid: number): number {
    return this.#pin(ref, domid, 0);
  }

  /** As {@link pinToRead}, to be written too. */
  pinToWrite(ref: number, domid: number): number {
    return this.#pin(ref, domid, READ_ONLY);
  }

  /** `refused`: the flags of an entry that cannot be used so. */
  #pin(ref: number, domid: number, refused: number): number {
    if (!this.exists(ref)) return GrantStatus.badGntref;
    const { control } = this.memory;
    const at = this.#at(ref);
    for (;;) {
      const word = Atomics.load(control, at);
      if ((word & (VALID | DOMID)) !== (VALID | domid)) return GrantStatus.generalError;
      if ((word & refused) !== 0) return GrantStatus.generalError;
      if (word >>> PIN_SHIFT === MAX_PINS) return GrantStatus.noSpace;
      if (Atomics.compareExchange(control, at, word, (word + PIN) | 0) === word) return control[at + FRAME];
    }
  }

  /** Whether the page is granted to `domid`, though only to be read. */
  isReadOnly(ref: number, domid: number): boolean {
    if (!this.exists(ref)) return false;
    const word = this.word(ref);
    return (word & (VALID | DOMID | READ_ONLY)) === (VALID | domid | READ_ONLY);
  }

  /** Undoes one {@link pinToRead} or {@link pinToWrite}. */
  unpin(ref: number): void {
    const at = this.#at(ref);
    const before = Atomics.sub(this.memory.control, at, PIN);
    if (before >>> PIN_SHIFT === 1 && (before & ENDING) !== 0) this.freeEnded(ref);
  }

  /** Whether `ref` is a reference that a domain may use. */
  protected exists(ref: number): boolean {
    return ref >= RESERVED_GRANTS && ref < this.memory.size.grants;
  }

  /** The first word of an entry, see {@link GrantWord}. */
  protected word(ref: number): number {
    return Atomics.load(this.memory.control, this.#at(ref));
  }

  /** The frame of an entry in use. */
  protected frame(ref: number): number {
    return this.memory.control[this.#at(ref) + FRAME];
  }

  /** Drops all use by `domid`, which was destroyed. */
  forgetUser(domid: number): void {
    for (let ref = RESERVED_GRANTS; ref < this.memory.control[Header.grantsTouched]; ref++) {
      while (this.#usedBy(ref, domid)) this.unpin(ref);
    }
  }

  /** Looks for writes to frames that nobody may use. For strict memory. */
  checkFreeFrames(): void {
    this.#lock.run(() => this.#frames.checkFree());
  }

  /** Grants that were not ended or are still in use, how many of these are in use, and frames given out. */
  usage(): { grants: number; mapped: number; frames: number } {
    let grants = 0;
    let mapped = 0;
    for (let ref = RESERVED_GRANTS; ref < this.memory.control[Header.grantsTouched]; ref++) {
      const word = Atomics.load(this.memory.control, this.#at(ref));
      if ((word & (VALID | ENDING)) !== 0) grants++;
      if (word >>> PIN_SHIFT !== 0) mapped++;
    }
    return { grants, mapped, frames: this.#frames.used() };
  }

  #usedBy(ref: number, domid: number): boolean {
    const word = Atomics.load(this.memory.control, this.#at(ref));
    return word >>> PIN_SHIFT !== 0 && (word & DOMID) === domid;
  }

  #at(ref: number): number {
    return this.memory.at.grants + ref * GRANT_WORDS;
  }

  #free(ref: number): void {
    this.#lock.run(() => {
      const { control } = this.memory;
      const at = this.#at(ref);
      this.#frames.free(control[at + FRAME]);
      Atomics.store(control, at, 0);
      control[at + NEXT_FREE] = control[Header.grantsFree];
      control[Header.grantsFree] = ref;
      control[Header.grantsUsed]--;
    });
  }

  #freeEntries(): number {
    return this.memory.size.grants - RESERVED_GRANTS - this.memory.control[Header.grantsUsed];
  }

  #takeEntry(): number {
    const { control } = this.memory;
    control[Header.grantsUsed]++;
    const ref = control[Header.grantsFree];
    if (ref !== 0) {
      control[Header.grantsFree] = control[this.#at(ref) + NEXT_FREE];
      return ref;
    }
    const fresh = Math.max(control[Header.grantsTouched], RESERVED_GRANTS);
    control[Header.grantsTouched] = fresh + 1;
    return fresh;
  }
}
