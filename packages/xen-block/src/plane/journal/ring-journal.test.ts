import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackRing, FrontRing } from '@xenpv/ring';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { adoptRing } from './adopt-ring.js';
import { pushAnswers } from './push-answers.js';
import type { RingJournal } from './ring-journal.js';

const folder = mkdtempSync(join(tmpdir(), 'journal-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SLOT_BYTES = 112;
const IDENTITY = { refs: Uint32Array.of(7, 8), eventChannel: 3 };
let files = 0;

/** The backend's side of one ring, as a data plane keeps it: requests by their number, which is their first word. */
class Backend {
  readonly back: BackRing;
  readonly journal: RingJournal;
  /** Requests in flight: number to journal entry. */
  readonly pending = new Map<number, number>();

  constructor(memory: SharedArrayBuffer, path: string, adopt: boolean) {
    this.back = BackRing.attach(new Uint8Array(memory), SLOT_BYTES);
    const { journal, entries } = adoptRing(this.back, IDENTITY, { path, adopt });
    if (!journal) throw new Error('no journal');
    this.journal = journal;
    const words = new Int32Array(this.back.slotWords);
    for (const entry of entries) {
      this.journal.copySlot(entry, words, 0);
      this.pending.set(words[0], entry);
    }
  }

  /** As a data plane, which publishes what it has put before it takes more. */
  take(count: number): void {
    this.push();
    const words = new Int32Array(this.back.slotWords);
    for (let left = Math.min(count, this.back.harvest()); left > 0; left--) {
      const index = this.back.takeRequest(words, 0);
      this.pending.set(words[0], this.journal.take(words, 0, index));
    }
  }

  push(): void {
    pushAnswers(this.back, this.journal);
  }

  /** Puts the answer to the `n`th request in flight. */
  put(n: number): void {
    if (this.pending.size === 0) return;
    const [number, entry] = [...this.pending][n % this.pending.size];
    this.pending.delete(number);
    this.journal.answer(entry, this.back.responsesProduced);
    this.back.putResponse(Int32Array.of(number, 0, 0, 0), 0, 4);
  }
}

/** A frontend that knows which of its requests were answered. */
class Frontend {
  readonly memory = new SharedArrayBuffer(4096);
  readonly ring = new FrontRing(new Uint8Array(this.memory), SLOT_BYTES);
  readonly asked = new Set<number>();
  #next = 1;

  ask(count: number): void {
    const words = new Int32Array(SLOT_BYTES / 4);
    for (; count > 0 && !this.ring.full; count--) {
      words.fill(this.#next);
      this.asked.add(this.#next++);
      this.ring.putRequest(words, 0, words.length);
    }
    this.ring.pushRequests();
  }

  /** Errors: an answer to something that is not asked. */
  collect(): void {
    const words = new Int32Array(4);
    for (let count = this.ring.harvest(); count > 0; count--) {
      this.ring.takeResponse(words, 0, 4);
      if (!this.asked.delete(words[0])) throw new Error(`${words[0]} was answered and is not asked`);
    }
  }
}

describe('a backend that is killed again and again', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('ask' as const), n: fc.integer({ min: 1, max: 12 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const), n: fc.integer({ min: 1, max: 40 }) }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant('put' as const), n: fc.nat(40) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('push' as const), n: fc.constant(0) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('kill' as const), n: fc.constant(0) }) },
  );

  it('answers every request once, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const path = join(folder, `ring-${files++}`);
        const front = new Frontend();
        let backend = new Backend(front.memory, path, false);
        for (const { do: what, n } of steps) {
          if (what === 'ask') front.ask(n);
          else if (what === 'take') backend.take(n);
          else if (what === 'put') backend.put(n);
          else if (what === 'kill') backend = new Backend(front.memory, path, true);
          else backend.push();
          front.collect();
        }
        backend.take(64);
        while (backend.pending.size > 0) backend.put(0);
        backend.push();
        front.collect();
        expect([...front.asked]).toEqual([]);
        backend.journal.close();
      }),
      { numRuns: 500 },
    );
  });

  it('carries out again what it has answered and not published', () => {
    const path = join(folder, `ring-${files++}`);
    const front = new Frontend();
    const backend = new Backend(front.memory, path, false);
    front.ask(4);
    backend.take(4);
    for (const n of [3, 1]) backend.put(n);
    backend.push();
    backend.put(1);
    const next = new Backend(front.memory, path, true);
    expect([...next.pending.keys()]).toEqual([1, 3]);
    while (next.pending.size > 0) next.put(0);
    next.push();
    front.collect();
    expect(front.asked.size).toBe(0);
  });
});

it('a second life that is killed too does not take an index of the first for published', () => {
  const path = join(folder, `ring-${files++}`);
  const front = new Frontend();
  const first = new Backend(front.memory, path, false);
  front.ask(2);
  first.take(2);
  first.put(0);
  const second = new Backend(front.memory, path, true);
  second.put(1);
  second.push();
  const third = new Backend(front.memory, path, true);
  expect([...third.pending.keys()]).toEqual([1]);
  third.put(0);
  third.push();
  front.collect();
  expect(front.asked.size).toBe(0);
});
