/**
 * The loop over the rings of a data plane. A pass takes the requests of every awake ring, copies in the data of writes
 * with one call, starts them, collects completions, copies out the data of reads with one call, and answers. Passes
 * follow each other until no ring has more; then the thread rests.
 *
 * What must hold: as long as a ring is awake or a list is not empty, a pass is owed: either this loop is running, or it
 * is scheduled on the event loop, or the end of a sleep in place or of an engine's delivery runs it. Who throws within a
 * pass breaks a promise, and nothing else: it is told, and after a moment another run goes on where that one was.
 * What never happens: a run within a run (an engine may deliver completions during a pass; they only fill the lists),
 * an allocation or a promise.
 */
import { type PlaneRestedEvent, restedChannel } from '../diagnostics.js';
import { brokenAtRest } from './at-rest.js';
import type { RingJournal } from './journal/ring-journal.js';
import type { Holds } from './pace/holds.js';
import { Recovery } from './recovery.js';
import { RequestAnswers } from './requests/answers.js';
import { RequestDispatch } from './requests/dispatch.js';
import { RequestIntake } from './requests/intake.js';
import type { PassParts } from './requests/parts.js';
import { observe } from './requests/trace.js';
import { type Rest, Woken } from './rest.js';
import type { BlockRing } from './rings/ring.js';
import { guaranteeOf } from './transfer/data-memory.js';

/** Passes, and sleeps in between, before other work gets a turn of the event loop. */
const MAX_PASSES = 32;
const MAX_SLEEPS = 256;
/** From a failure to the run that goes on. */
const RETRY_MS = 100;

export class PassLoop {
  readonly #parts: PassParts;
  readonly #rest: Rest;
  readonly #holds: Holds;
  readonly #intake: RequestIntake;
  readonly #dispatch: RequestDispatch;
  readonly #answers: RequestAnswers;
  readonly #recovery: Recovery;
  #running = false;
  #scheduled = false;
  #closed = false;
  #runs = 0;
  #retry: NodeJS.Timeout | undefined;
  readonly #rested: PlaneRestedEvent;

  constructor(parts: PassParts, rest: Rest) {
    this.#parts = parts;
    this.#rest = rest;
    this.#holds = parts.holds;
    this.#intake = new RequestIntake(parts);
    this.#dispatch = new RequestDispatch(parts);
    this.#answers = new RequestAnswers(parts);
    this.#recovery = new Recovery({
      rings: parts.rings,
      table: parts.table,
      adopt: (ring, entry, recovered) => this.#intake.adopt(ring, entry, recovered),
      wake: (ring) => this.wake(ring),
    });
    this.#rested = { broken: () => brokenAtRest(parts) };
    rest.onHoldExpired(() => this.#run());
    parts.throttled.onTime(() => this.#run());
    parts.notices.onFailed(() => this.#runLater());
  }

  /** How often it has run. */
  get runs(): number {
    return this.#runs;
  }

  /** A ring is added: each stage begins its scratch of it. */
  open(ring: BlockRing): void {
    this.#parts.sharers.open(ring, guaranteeOf(ring.geometry.maxIndirectSegments));
    this.#parts.shares.open(ring);
    this.#parts.waiting.open(ring);
    this.#parts.barriers.open(ring);
    this.#parts.notices.open(ring);
    this.#holds.open(ring);
    this.#dispatch.open(ring);
    this.#answers.open(ring);
    this.#rest.open(ring);
  }

  /** Nothing runs any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#parts.throttled.close();
    this.#rest.close();
  }

  /** Carries out the requests that an earlier process left: `entries` of the ring's journal. */
  recover(ring: BlockRing, journal: RingJournal, entries: Int32Array): void {
    this.#recovery.begin(ring, journal, entries);
    this.wake(ring);
  }

  /** A ring is removed, or let go of: requests of it may be pending. */
  forget(ring: BlockRing): void {
    this.#parts.throttled.forget(ring);
    this.#recovery.forget(ring);
    this.#rest.forget(ring);
  }

  /** Has a ring looked at soon. */
  wake(ring: BlockRing): void {
    this.#parts.rings.wake(ring);
    this.#schedule();
  }

  /** Has a ring looked at soon whose events may have been lost. */
  rescue(ring: BlockRing): void {
    this.#rest.unmaskLater(ring);
    this.wake(ring);
  }

  /** Events came, from the event loop: serves them, then waits for the next ones in place. */
  fired(ports: Uint32Array, count: number): void {
    this.#rest.fired(ports, count);
    this.#serveAndSleep();
  }

  /** Engine calls have ended. */
  completed(tags: Int32Array, results: Int32Array, count: number): void {
    this.#parts.clock.tick();
    observe(this.#parts.table);
    for (let i = 0; i < count; i++) this.#ended(tags[i], results[i]);
    this.#run();
  }

  #ended(tag: number, result: number): void {
    try {
      const leader = this.#dispatch.endOf(tag);
      if (leader < 0) return;
      if (this.#recovery.active) this.#recovery.ended(leader);
      this.#dispatch.ended(leader, result);
    } catch (error) {
      this.#parts.notices.failed(undefined, error);
    }
  }

  #serveAndSleep(): void {
    this.#rest.beginSleeps();
    try {
      this.#run();
      this.#sleepInPlace();
    } finally {
      if (this.#rest.endSleeps()) this.#schedule();
    }
  }

  #sleepInPlace(): void {
    for (let left = MAX_SLEEPS; left > 0 && this.#mayStay(); left--) {
      const woken = this.#rest.sleep();
      if (woken === Woken.forEventLoop) return;
      if (woken === Woken.byCompletion) this.#dispatch.pollEventfd();
      this.#run();
    }
  }

  /** Whether nothing needs the event loop. */
  #mayStay(): boolean {
    const needed = this.#parts.notices.takeNeedsEventLoop();
    return !needed && !this.#scheduled && !this.#closed;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  /** A run a moment after a failure, whose cause may still be there, over all rings: who knows which it has cut short. */
  #runLater(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      const { rings } = this.#parts;
      for (const ring of rings.all) if (ring) rings.wake(ring);
      this.#run();
    }, RETRY_MS);
  }

  #run(): void {
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.#runs++;
    try {
      this.#runPasses();
    } catch (error) {
      this.#parts.notices.failed(undefined, error);
    } finally {
      this.#running = false;
    }
  }

  #runPasses(): void {
    this.#parts.throttled.release();
    this.#rest.begin();
    this.#parts.clock.begin();
    observe(this.#parts.table);
    const { table, lists, turns } = this.#parts;
    turns.beginRun();
    let busy = true;
    for (let pass = 0; busy && pass < MAX_PASSES && !turns.runIsLong; pass++) {
      // After a pass that left nothing in flight only the rings can have more.
      busy = (this.#pass() && table.used > 0) || this.#rest.poll(this.#found) || !this.#rest.settle() || lists.owePass;
    }
    if (busy) {
      this.#rest.endUnfinished();
      this.#schedule();
    } else {
      this.#rest.endSettled();
      if (restedChannel.hasSubscribers) restedChannel.publish(this.#rested);
    }
  }

  /** One round over all awake rings. False when there was nothing to do. */
  #pass(): boolean {
    const recovering = this.#recovery.active;
    if (recovering) this.#recovery.beforePass();
    const pulled = this.#intake.pull();
    this.#intake.admit();
    this.#dispatch.start();
    if (recovering) this.#recovery.started();
    this.#dispatch.poll();
    const answered = this.#answers.answer();
    const begun = recovering && this.#recovery.afterPass();
    if (this.#parts.turns.passIsLong) this.#parts.glances.look();
    return pulled > 0 || answered > 0 || begun || this.#parts.lists.owePass;
  }

  /** Whether an awake ring has requests, or its engine has ended a call. */
  readonly #found = (): boolean => {
    const { rings, barriers, lists } = this.#parts;
    const { awake } = rings;
    for (let i = 0; i < awake.length; i++) {
      if (barriers.mayTake(awake[i]) && awake[i].back.hasRequests()) return true;
    }
    this.#dispatch.poll();
    return lists.owePass;
  };
}
