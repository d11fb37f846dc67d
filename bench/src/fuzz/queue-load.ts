import type { RawQueue } from '@xenpv/blkfront/testing';
import type { Random } from './random.js';
import type { FuzzRequest, RequestFactory } from './requests.js';

interface InFlight {
  readonly request: FuzzRequest;
  readonly since: number;
}

/** What a ring looks like that does not go on. */
export interface StalledRing {
  readonly queue: number;
  readonly requestsProduced: number;
  readonly requestEvent: number;
  readonly responsesProduced: number;
  readonly responseEvent: number;
  readonly unanswered: number;
  readonly first: string;
  readonly seconds: number;
}

export interface QueueLoadOptions {
  readonly raw: RawQueue;
  readonly queue: number;
  readonly random: Random;
  readonly factory: RequestFactory;
  readonly depth: number;
  readonly requests: number;
}

/** Keeps a ring busy until it has sent so many requests and has all their answers. */
export class QueueLoad {
  answered = 0;
  /** Resolves when all are answered; rejects with what was wrong. */
  readonly done: Promise<void>;
  readonly #o: QueueLoadOptions;
  readonly #inFlight = new Map<number, InFlight>();
  #sent = 0;
  #nextId = 1;
  #filling = false;
  #ended = false;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor(options: QueueLoadOptions) {
    this.#o = options;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {});
    this.#fill();
  }

  /** The ring, if its oldest request is older than that. */
  stalled(seconds: number): StalledRing | undefined {
    const [oldest] = this.#inFlight.values();
    if (this.#ended || !oldest) return undefined;
    const age = (performance.now() - oldest.since) / 1000;
    if (age < seconds) return undefined;
    const { raw, queue } = this.#o;
    const [requestsProduced, requestEvent, responsesProduced, responseEvent] = raw.shared.subarray(0, 4);
    return {
      queue,
      requestsProduced,
      requestEvent,
      responsesProduced,
      responseEvent,
      unanswered: this.#inFlight.size,
      first: oldest.request.kind,
      seconds: Math.round(age),
    };
  }

  /** Sends as many as there is room for, in groups of any size, one event or none for each. */
  #fill(): void {
    const { raw, random, factory, depth, requests } = this.#o;
    this.#filling = false;
    if (this.#ended) return;
    let put = 0;
    let group = random.from(1, 32);
    // What finds no pages and no free range is tried again when something was answered.
    for (let tries = 0; tries < 64 && this.#sent < requests && this.#inFlight.size < depth && !raw.ring.full; tries++) {
      const id = this.#nextId++;
      const request = factory.make(id, 0x77);
      if (!request) continue;
      this.#send(id, request);
      put++;
      if (--group > 0) continue;
      raw.push();
      group = random.from(1, 32);
      tries = 0;
    }
    if (put > 0) raw.push();
    if (this.#inFlight.size === 0 && this.#sent < requests) this.#fillSoon();
  }

  #send(id: number, request: FuzzRequest): void {
    this.#sent++;
    this.#inFlight.set(id, { request, since: performance.now() });
    this.#o.raw.put(request.words).then(
      ({ operation, status }) => this.#take(id, request, operation, status),
      (error) => this.#end(error),
    );
  }

  #take(id: number, request: FuzzRequest, operation: number, status: number): void {
    this.#inFlight.delete(id);
    this.answered++;
    const wrong = request.answered(operation, status);
    if (wrong !== undefined) this.#end(new Error(`queue ${this.#o.queue}, request ${id}, ${request.kind}: ${wrong}`));
    else if (this.#sent === this.#o.requests && this.#inFlight.size === 0) this.#end();
    else this.#fillSoon();
  }

  #fillSoon(): void {
    if (this.#filling || this.#ended) return;
    this.#filling = true;
    // Now and then it lets the ring run empty.
    if (this.#o.random.oneIn(200)) setTimeout(() => this.#fill(), this.#o.random.below(4));
    else setImmediate(() => this.#fill());
  }

  #end(error?: Error): void {
    this.#ended = true;
    if (error) this.#reject(error);
    else this.#resolve();
  }
}
