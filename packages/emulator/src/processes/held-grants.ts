import { GrantStatus } from '@xenpv/xen-sys';
import { Grants, GrantWord } from '../machine/grants.js';
import type { DomainMemory } from '../machine/memory.js';
import type { ThreadPage } from './thread-page.js';

/**
 * The grants of a domain as a thread of another process than the host's uses them. A page that is copied is not counted
 * in its entry, which would stay so if the thread died, but announced on the thread's page. The announcement comes before
 * the look at the entry, the end of a grant before the look for announcements, so that one of the two sees the other.
 */
export class HeldGrants extends Grants {
  readonly #page: ThreadPage;
  /** Has the host free a grant that ended while it was copied. */
  readonly #freeEnded: (domid: number, ref: number) => void;

  constructor(memory: DomainMemory, page: ThreadPage, freeEnded: (domid: number, ref: number) => void) {
    super(memory);
    this.#page = page;
    this.#freeEnded = freeEnded;
  }

  override pinToRead(ref: number, domid: number): number {
    return this.#hold(ref, domid, 0);
  }

  override pinToWrite(ref: number, domid: number): number {
    return this.#hold(ref, domid, GrantWord.readOnly);
  }

  override unpin(ref: number): void {
    this.#page.release(this.memory.domid, ref);
    if ((this.word(ref) & GrantWord.ending) !== 0) this.#freeEnded(this.memory.domid, ref);
  }

  #hold(ref: number, domid: number, refused: number): number {
    if (!this.exists(ref)) return GrantStatus.badGntref;
    this.#page.hold(this.memory.domid, ref);
    const word = this.word(ref);
    const { valid, domid: user } = GrantWord;
    if ((word & (valid | user)) === (valid | domid) && (word & refused) === 0) return this.frame(ref);
    this.unpin(ref);
    return GrantStatus.generalError;
  }
}
