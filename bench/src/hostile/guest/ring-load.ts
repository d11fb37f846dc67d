import { type Abi, responseIdHigh, responseIdLow, responseOperation, responseStatus } from '@xenpv/blkif';
import type { FrontRing } from '@xenpv/ring';
import type { Random } from '../../program/random.js';
import type { DiskModel } from '../oracle/disk-model.js';
import { indexOfId, Sent } from '../oracle/sent.js';
import type { Verdict } from '../oracle/verdict.js';
import type { RequestDrawer } from './draw.js';
import type { Race } from './race.js';

const HEADER_WORDS = 16;
const REQ_EVENT = 1;
const RSP_EVENT = 3;
/** The rest of the header is the guest's own. */
const PRIVATE_WORD = 4;
const MOST_IN_FLIGHT = 512;

export interface RingLoadOptions {
  readonly name: string;
  readonly ring: FrontRing;
  /** The ring's words, from its first page on. */
  readonly shared: Int32Array;
  readonly abi: Abi;
  readonly random: Random;
  readonly model: DiskModel;
  readonly drawer: RequestDrawer;
  readonly verdict: Verdict;
  readonly race: Race | undefined;
  readonly depth: number;
  readonly mostSegments: number;
  /** Writes nonsense to what the backend has in the ring's header. */
  readonly scribbles: boolean;
  readonly notify: () => void;
  /** Something is wrong. */
  readonly failed: (message: string) => void;
  /** How long a request took, in milliseconds. */
  readonly took?: (milliseconds: number) => void;
}

/** What a ring looks like that does not go on. */
export interface StalledRing {
  readonly ring: string;
  /** req_prod, req_event, rsp_prod, rsp_event. */
  readonly indices: readonly number[];
  readonly unanswered: number;
  readonly first: string;
  readonly seconds: number;
}

/** Keeps a ring busy, and looks at every answer. */
export class RingLoad {
  answered = 0;
  /** Requests that may still be sent. */
  left = 0;
  inFlight = 0;
  readonly #o: RingLoadOptions;
  readonly #sent: Sent[];
  readonly #free: number[] = [];
  readonly #response = new Int32Array(4);
  /** What was put into each slot. */
  readonly #slots: Int32Array;
  readonly #header: Int32Array;
  #racing: Sent | undefined;
  #racedSlot = -1;
  #ended = false;
  #now = performance.now();

  constructor(options: RingLoadOptions) {
    this.#o = options;
    const { ring, random, shared, mostSegments } = options;
    this.#sent = Array.from({ length: MOST_IN_FLIGHT }, (_, i) => new Sent(i + 1, mostSegments));
    this.#free = Array.from({ length: MOST_IN_FLIGHT }, (_, i) => i);
    this.#slots = new Int32Array(ring.size * ring.slotWords);
    this.#header = Int32Array.from({ length: HEADER_WORDS }, () => random.below(2 ** 32));
    for (let i = PRIVATE_WORD; i < HEADER_WORDS; i++) shared[i] = this.#header[i];
  }

  /** Takes answers, then sends what there is room for. */
  work(): void {
    if (this.#ended) return;
    this.#now = performance.now();
    this.#drain();
    this.#fill();
  }

  /** Nothing is looked at from now on; what was not answered may have been carried out, or not. */
  abandon(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stopRace();
    for (const sent of this.#sent) {
      if (!sent.busy) continue;
      this.#o.verdict.abandoned(sent);
      sent.busy = false;
    }
    this.inFlight = 0;
  }

  /** Looks only for what must not be there. */
  lookForTraces(): void {
    const { shared, failed, name } = this.#o;
    for (let i = PRIVATE_WORD; i < HEADER_WORDS; i++) {
      if (shared[i] !== this.#header[i]) failed(`${name}: word ${i} of the ring's header was written to`);
    }
  }

  /** The ring, if its oldest request is older than that. */
  stalled(seconds: number): StalledRing | undefined {
    if (this.#ended || this.inFlight === 0) return undefined;
    const oldest = this.#sent.reduce<Sent | undefined>(
      (least, sent) => (sent.busy && (least === undefined || sent.since < least.since) ? sent : least),
      undefined,
    );
    if (oldest === undefined) return undefined;
    const age = (performance.now() - oldest.since) / 1000;
    if (age < seconds) return undefined;
    return {
      ring: this.#o.name,
      indices: [...this.#o.shared.subarray(0, 4)],
      unanswered: this.inFlight,
      first: oldest.kind,
      seconds: Math.round(age * 10) / 10,
    };
  }

  #fill(): void {
    const { ring, random, depth } = this.#o;
    let group = random.from(1, 32);
    let put = 0;
    // What finds no pages and no free part of the disk is tried again when something was answered.
    for (let tries = 0; tries < 8 && this.left > 0 && this.inFlight < depth && !ring.full; ) {
      if (!this.#send()) {
        tries++;
        continue;
      }
      put++;
      if (--group > 0) continue;
      this.#push();
      group = random.from(1, 32);
      put = 0;
    }
    if (put > 0) this.#push();
  }

  #send(): boolean {
    const { drawer, ring, model } = this.#o;
    const index = this.#free[this.#free.length - 1];
    const sent = this.#sent[index];
    if (!drawer.draw(sent)) return false;
    this.#free.pop();
    sent.busy = true;
    sent.since = this.#now;
    sent.change = model.lastChange;
    const slot = ring.requestsProduced & (ring.size - 1);
    if (slot === this.#racedSlot) this.#stopRace();
    this.#slots.set(sent.words.subarray(0, ring.slotWords), slot * ring.slotWords);
    ring.putRequest(sent.words, 0, ring.slotWords);
    if (sent.raced) this.#race(sent, slot);
    this.left--;
    this.inFlight++;
    return true;
  }

  #race(sent: Sent, slot: number): void {
    const { race, shared, ring } = this.#o;
    this.#racing = sent;
    this.#racedSlot = slot;
    race?.start(shared.byteOffset / 4 + HEADER_WORDS + slot * ring.slotWords);
  }

  #stopRace(): void {
    if (this.#racing === undefined) return;
    const { shared, ring, abi } = this.#o;
    const slot = this.#racedSlot;
    this.#racing = undefined;
    this.#racedSlot = -1;
    const stopped = this.#o.race?.stop();
    // One of the two words is left in the slot.
    const at = slot * ring.slotWords;
    for (let i = abi.responseWords; i < ring.slotWords; i++) this.#slots[at + i] = shared[HEADER_WORDS + at + i];
    if (stopped === false) this.#o.failed('the exchanging thread is gone');
  }

  #push(): void {
    const { ring, notify, scribbles, shared, random } = this.#o;
    const asked = ring.pushRequests();
    if (scribbles && random.oneIn(4)) Atomics.store(shared, REQ_EVENT, random.below(2 ** 32) | 0);
    if (asked || scribbles) notify();
  }

  #drain(): void {
    const { ring, scribbles, shared, random } = this.#o;
    do {
      const count = ring.harvest();
      if (count < 0) {
        this.#fail('more answers than requests');
        return;
      }
      for (let i = 0; i < count && !this.#ended; i++) this.#take();
    } while (!this.#ended && ring.finalCheck());
    // The guest looks again by itself.
    if (scribbles && random.oneIn(4)) Atomics.store(shared, RSP_EVENT, random.below(2 ** 32) | 0);
  }

  #take(): void {
    const { ring, abi, drawer, verdict, took } = this.#o;
    const response = this.#response;
    const slot = ring.takeResponse(response, 0, abi.responseWords) & (ring.size - 1);
    const idLow = responseIdLow(response, 0);
    const sent = this.#sent[indexOfId(idLow)];
    if (idLow < 0 || !sent?.busy || sent.idLow !== idLow || sent.idHigh !== responseIdHigh(response, 0)) {
      this.#fail(`an answer to a request that is not in flight, id ${responseIdHigh(response, 0)}:${idLow}`);
      return;
    }
    const padding = (response[2] >>> 8) & 0xff;
    if (padding !== 0 || (abi.responseWords === 4 && response[3] !== 0)) this.#fail('padding that is not zero');
    if (slot !== this.#racedSlot && !this.#restIsIntact(slot)) this.#fail('more than an answer was written to a slot');
    if (sent === this.#racing) this.#stopRace();
    const wrong = verdict.answered(sent, responseOperation(response, 0), responseStatus(response, 0));
    if (wrong !== undefined) this.#fail(`${sent.kind}, sector ${sent.meaning.sector}: ${wrong}`);
    took?.(this.#now - sent.since);
    drawer.give(sent);
    sent.busy = false;
    this.#free.push(sent.number - 1);
    this.inFlight--;
    this.answered++;
  }

  #restIsIntact(slot: number): boolean {
    const { ring, shared, abi } = this.#o;
    const at = slot * ring.slotWords;
    for (let i = abi.responseWords; i < ring.slotWords; i++) {
      if (shared[HEADER_WORDS + at + i] !== this.#slots[at + i]) return false;
    }
    return true;
  }

  #fail(message: string): void {
    this.#o.failed(`${this.#o.name}: ${message}`);
  }
}
