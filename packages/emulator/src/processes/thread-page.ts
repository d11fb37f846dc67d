/**
 * A page that the host shares with one thread of a process: the thread's hypercalls, one at a time, and the grants that
 * it copies from or to at the moment. The thread may die at any instant; whatever the words say then, the host can undo
 * what it had. A hypercall is carried out by the host, whole; of a copy only two words need to be cleared.
 */
import { Errno, futexWait, futexWake, XenSysError } from '@xenpv/xen-sys';

/** What a thread can ask of the host. The arguments are numbers, of which the last may be a list. */
export const Hypercall = {
  /** (domid): the handle, or -1 */
  openHandle: 1,
  /** (domid, handle) */
  closeHandle: 2,
  /** (domid, handle, remote): the port, or -1 */
  bindUnbound: 3,
  /** (domid, handle, remote, remote port): the port, -1, or EINVAL */
  bindInterdomain: 4,
  /** (domid, port) */
  closePort: 5,
  /** (domid, granter, writable, references): 0 and the frames, or a GrantStatus and the bad reference */
  mapGrants: 6,
  /** (domid, granter, references) */
  unmapGrants: 7,
  /** (domid, user, writable, as many zeroes): the first frame and the references, or -1, -2 */
  grantNew: 8,
  /** (domid, references) */
  endGrants: 9,
  /** (granter, reference): a copy is over, and the grant was ended meanwhile */
  freeEnded: 10,
} as const;

const IDLE = 0;
const ASKED = 1;
const ANSWERED = 2;

const STATE = 0;
const CALL = 1;
const RESULT = 2;
const COUNT = 3;
const ARGUMENTS = 4;
const LIST = 16;
const HELD = 1016;
/** Of each grant that is copied: the granting domain's number + 1, and the reference. A copy has two at most. */
const HELD_WORDS = 2;

/** The longest list. */
export const LIST_MAX = HELD - LIST;

/** How often a waiting thread looks whether the host lives. */
const LOOK_MS = 200;

/** A thread's end of its page. */
export class ThreadPage {
  readonly #words: Int32Array;
  readonly #ring: () => void;
  readonly #isHostAlive: () => boolean;

  constructor(words: Int32Array, actions: { readonly ring: () => void; readonly isHostAlive: () => boolean }) {
    this.#words = words;
    this.#ring = actions.ring;
    this.#isHostAlive = actions.isHostAlive;
  }

  /**
   * Has the host carry out a hypercall; blocks until it has. `list` of at most LIST_MAX words goes both ways.
   * Error: ESRCH when the host is gone.
   */
  call(call: number, args: readonly number[], list?: Uint32Array): number {
    const words = this.#words;
    words[CALL] = call;
    for (let i = 0; i < args.length; i++) words[ARGUMENTS + i] = args[i];
    words[COUNT] = list?.length ?? 0;
    if (list !== undefined) words.set(list, LIST);
    Atomics.store(words, STATE, ASKED);
    this.#ring();
    while (Atomics.load(words, STATE) === ASKED) {
      if (futexWait(words, STATE, ASKED, LOOK_MS) === Errno.EAGAIN) break;
      if (Atomics.load(words, STATE) === ASKED && !this.#isHostAlive()) {
        throw new XenSysError('ESRCH', 'hypercall', 'the host of this emulated machine is gone');
      }
    }
    if (list !== undefined) list.set(words.subarray(LIST, LIST + list.length));
    Atomics.store(words, STATE, IDLE);
    return words[RESULT];
  }

  /** Announces that a grant is copied from now on: it is not freed until {@link release}. */
  hold(domid: number, ref: number): void {
    const at = this.#words[HELD] === 0 ? HELD : HELD + HELD_WORDS;
    this.#words[at + 1] = ref;
    Atomics.store(this.#words, at, domid + 1);
  }

  release(domid: number, ref: number): void {
    const words = this.#words;
    const at = words[HELD] === domid + 1 && words[HELD + 1] === (ref | 0) ? HELD : HELD + HELD_WORDS;
    Atomics.store(words, at, 0);
  }
}

/** The host's end. */
export class ServedPage {
  readonly #words: Int32Array;

  constructor(words: Int32Array) {
    this.#words = words;
  }

  /** Carries out the call that waits, if there is one. `carryOut` gets a copy of the list, which it may change. */
  serve(carryOut: (call: number, args: Int32Array, list: Uint32Array) => number): void {
    const words = this.#words;
    if (Atomics.load(words, STATE) !== ASKED) return;
    const count = Math.min(Math.max(words[COUNT], 0), LIST_MAX);
    const list = new Uint32Array(words.slice(LIST, LIST + count));
    words[RESULT] = carryOut(words[CALL], words.slice(ARGUMENTS, LIST), list);
    words.set(list, LIST);
    Atomics.store(words, STATE, ANSWERED);
    futexWake(words, STATE);
  }

  /** Whether the thread copies this grant at the moment. */
  isHeld(domid: number, ref: number): boolean {
    return this.#holds(HELD, domid, ref) || this.#holds(HELD + HELD_WORDS, domid, ref);
  }

  /** The grants that a dead thread was copying. */
  takeHeld(): { domid: number; ref: number }[] {
    const held = [];
    for (let at = HELD; at < HELD + 2 * HELD_WORDS; at += HELD_WORDS) {
      const owner = Atomics.exchange(this.#words, at, 0);
      if (owner !== 0) held.push({ domid: owner - 1, ref: this.#words[at + 1] >>> 0 });
    }
    return held;
  }

  #holds(at: number, domid: number, ref: number): boolean {
    return Atomics.load(this.#words, at) === domid + 1 && this.#words[at + 1] === (ref | 0);
  }
}
