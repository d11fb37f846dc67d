import type { EventSleeper } from '@xenpv/xen-sys';
import { guardedMemory } from '../queue/buffer.js';
import { type ThreadRing, threadRing } from './thread-ring.js';

/** As xen-sys has of one call. */
const PORTS = 1024;
const EVENTFDS = 14;
const WORD_BYTES = 4;

/** Words of `control`: native/addon.cc. */
const SleepWord = { unmaskBytes: 0, eventfds: 1, first: 2, microseconds: 3, ready: 4, words: 5 } as const;

/**
 * Sleeps within this thread's io_uring, for an event of a provider's event channels (their descriptor) and for completions
 * alike: unmasking, sleeping and reading what fired is one system call. Undefined where `completionFd` is not of that ring, or
 * the kernel is older than 6.1.
 */
export function openRingSleeper(events: number, completionFd: number): EventSleeper | undefined {
  const ring = completionFd < 0 || events < 0 ? 'nothing to sleep on' : threadRing();
  if (typeof ring === 'string' || ring.eventFd !== completionFd) return undefined;
  const sleeper = new RingSleeper(ring, events);
  return sleeper.works ? sleeper : undefined;
}

class RingSleeper implements EventSleeper {
  readonly unmask: Uint32Array;
  readonly ports: Uint32Array;
  readonly eventfds: Int32Array;
  readonly #ring: ThreadRing;
  readonly #control: Int32Array;
  readonly #sleep: (() => number) | undefined;

  constructor(ring: ThreadRing, events: number) {
    const bytes = (2 * PORTS + EVENTFDS + SleepWord.words) * WORD_BYTES;
    const { buffer, at } = guardedMemory(bytes);
    this.unmask = new Uint32Array(buffer, at, PORTS);
    this.ports = new Uint32Array(buffer, at + PORTS * WORD_BYTES, PORTS);
    this.eventfds = new Int32Array(buffer, at + 2 * PORTS * WORD_BYTES, EVENTFDS);
    this.#control = new Int32Array(buffer, at + (2 * PORTS + EVENTFDS) * WORD_BYTES, SleepWord.words);
    this.#ring = ring;
    this.#sleep = ring.addon.ringSleeper(ring.id, events, this.#control, this.unmask, this.ports, this.eventfds);
  }

  get works(): boolean {
    return this.#sleep !== undefined;
  }

  sleep(unmaskCount: number, eventfdCount: number, first: boolean, microseconds: number): number {
    const control = this.#control;
    control[SleepWord.unmaskBytes] = unmaskCount * WORD_BYTES;
    control[SleepWord.eventfds] = eventfdCount;
    control[SleepWord.first] = first ? 1 : 0;
    control[SleepWord.microseconds] = microseconds;
    const bytes = this.#sleep?.() ?? 0;
    return bytes < 0 ? bytes : bytes / WORD_BYTES;
  }

  end(): number {
    const bytes = this.#ring.addon.ringEndSleeps(this.#ring.id, this.#control);
    if (this.#control[SleepWord.ready] !== 0) this.#ring.pollSoon();
    return bytes < 0 ? bytes : bytes / WORD_BYTES;
  }
}
