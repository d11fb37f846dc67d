/**
 * How the requests of an earlier process are carried out again: one begins in each pass, while the storage works on those
 * before it; nothing new is taken from their ring until all have begun. One of them may be what has killed that process,
 * and would kill this one: while our own code works on such a request its journal says so, and a death meanwhile is a
 * strike.
 * - After one strike a request is carried out alone: others of the ring before it, nothing beside it.
 * - After two it is answered with an error, and told.
 * - A death while only the storage works is no strike: nobody else's kill costs a request. One that began to be carried
 *   out for the ninth time is carried out alone, and then the storage's time counts too.
 *
 * Somebody may kill processes one after the other as they begin. So the time in which a death is a strike is short, it is
 * one request's at a time, and those that are carried out alone begin when the process has lived for a moment.
 *
 * What must hold: a barrier stays behind the requests that were taken before it; nothing new is taken from a ring as long
 * as one of its requests is carried out alone.
 */
import { BlkifOp, requestOperation } from '@xenpv/blkif';
import type { RingJournal } from './journal/ring-journal.js';
import { Phase, Recovered, type RequestTable, ROW_WORDS } from './requests/table.js';
import type { BlockRing } from './rings/ring.js';
import type { RingSet } from './rings/ring-set.js';

const NONE = -1;
const STRIKES = 2;
/** Lives in which a request was begun again and not answered, after which it is suspected. */
const PATIENCE = 8;
/** How long a ring is served before a request is carried out alone: longer than processes live that are killed one by one. */
const ALONE_AFTER_MS = 1000;

interface Parts {
  readonly rings: RingSet;
  readonly table: RequestTable;
  /** Puts an entry's request on its way; returns its row. */
  readonly adopt: (ring: BlockRing, entry: number, recovered: number) => number;
  /** Has a pass run soon. */
  readonly wake: (ring: BlockRing) => void;
}

interface RecoveredRequest {
  readonly ring: BlockRing;
  readonly journal: RingJournal;
  readonly entry: number;
  readonly row: number;
  /** The time that the storage takes counts as ours. */
  readonly suspected: boolean;
}

/** An entry whose request is to be carried out alone. */
interface Turn {
  readonly entry: number;
  readonly suspected: boolean;
}

/** What a ring has left to begin, in this order. */
interface Left {
  readonly ring: BlockRing;
  readonly journal: RingJournal;
  readonly together: Turn[];
  readonly alone: Turn[];
  /** Whether the last one has to be answered before the ring goes on. */
  readonly endsAlone: boolean;
  /** Until those that are carried out alone may begin. */
  timer: NodeJS.Timeout | undefined;
}

export class Recovery {
  readonly #parts: Parts;
  /** On their way. */
  #requests: RecoveredRequest[] = [];
  readonly #left = new Map<BlockRing, Left>();
  readonly #words = new Int32Array(ROW_WORDS);

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Whether any request is still to be carried out. */
  get active(): boolean {
    return this.#requests.length > 0 || this.#left.size > 0;
  }

  /** Begins with the requests that a ring's journal has. */
  begin(ring: BlockRing, journal: RingJournal, entries: Int32Array): void {
    const together: Turn[] = [];
    const alone: Turn[] = [];
    for (const entry of entries) {
      const { strikes, lives } = journal.triesOf(entry);
      const suspected = lives >= PATIENCE;
      if (strikes >= STRIKES) this.#parts.adopt(ring, entry, Recovered.givenUp);
      else if (strikes > 0 || suspected || (alone.length > 0 && this.#isBarrier(journal, entry))) {
        alone.push({ entry, suspected });
      } else together.push({ entry, suspected });
    }
    ring.left = together.length + alone.length;
    if (ring.left === 0) return;
    ring.inTurns = true;
    this.#left.set(ring, {
      ring,
      journal,
      together,
      alone,
      endsAlone: alone.length > 0,
      timer: this.#timer(ring, alone),
    });
    // One that waits for its first pass is followed by the others.
    if (this.#requests.every((request) => this.#isAtStorage(request))) this.#beginNext();
  }

  /** Before a pass: our own code works on whatever is not at the storage. */
  beforePass(): void {
    this.#drop();
    for (const request of this.#requests) if (!this.#isAtStorage(request)) mark(request, 'works');
  }

  /** The pass has given the storage what it could. */
  started(): void {
    for (const request of this.#requests) if (this.#isAtStorage(request)) this.#setAside(request);
  }

  /** The storage has ended a call, which this row leads. */
  ended(leader: number): void {
    const { table } = this.#parts;
    for (let row = leader; row !== NONE; row = table.next[row]) {
      if (table.recovered[row] === Recovered.no) continue;
      const request = this.#requests.find((one) => one.row === row);
      if (request) mark(request, 'works');
    }
  }

  /** What was not answered in the pass waits for something. Whether the next one has begun, for which a pass is owed. */
  afterPass(): boolean {
    this.#drop();
    for (const request of this.#requests) this.#setAside(request);
    return this.#beginNext();
  }

  /** The ring goes: its requests that were not carried out are left to the next process. */
  forget(ring: BlockRing): void {
    this.#requests = this.#requests.filter((request) => request.ring !== ring);
    clearTimeout(this.#left.get(ring)?.timer);
    this.#left.delete(ring);
  }

  #isBarrier(journal: RingJournal, entry: number): boolean {
    journal.copySlot(entry, this.#words, 0);
    return requestOperation(this.#words, 0) === BlkifOp.writeBarrier;
  }

  #timer(ring: BlockRing, alone: readonly Turn[]): NodeJS.Timeout | undefined {
    if (alone.length === 0) return undefined;
    return setTimeout(() => {
      const left = this.#left.get(ring);
      if (left) left.timer = undefined;
      this.#parts.wake(ring);
    }, ALONE_AFTER_MS);
  }

  #start({ ring, journal }: Left, { entry, suspected }: Turn): void {
    journal.beginLife(entry);
    // A pass comes later, after what else the process begins with: a death until then is nobody's fault.
    if (suspected) journal.markWorking(entry, 'works');
    const row = this.#parts.adopt(ring, entry, Recovered.again);
    this.#requests.push({ ring, journal, entry, row, suspected });
  }

  /** Forgets those that were answered: their rows are given back. */
  #drop(): void {
    const { recovered } = this.#parts.table;
    this.#requests = this.#requests.filter(({ row }) => recovered[row] !== Recovered.no);
  }

  /** Begins one request of one ring. */
  #beginNext(): boolean {
    for (const left of this.#left.values()) {
      const turn = this.#nextOf(left);
      if (turn === undefined) continue;
      this.#start(left, turn);
      this.#parts.rings.wake(left.ring);
      return true;
    }
    return false;
  }

  #nextOf(left: Left): Turn | undefined {
    const { ring, together, alone, endsAlone, timer } = left;
    if (ring.stopped) return undefined;
    const hasNone = () => !this.#requests.some((request) => request.ring === ring);
    const turn = together.shift() ?? (timer === undefined && hasNone() ? alone.shift() : undefined);
    ring.left = together.length + alone.length;
    if (ring.left === 0 && (!endsAlone || (turn === undefined && hasNone()))) this.#goOn(ring);
    return turn;
  }

  /** All of the ring have begun: it takes new ones. */
  #goOn(ring: BlockRing): void {
    this.#left.delete(ring);
    ring.inTurns = false;
    this.#parts.rings.wake(ring);
  }

  #isAtStorage({ row }: RecoveredRequest): boolean {
    const phase = this.#parts.table.phase[row];
    return phase === Phase.queued || phase === Phase.flushing || phase === Phase.kept;
  }

  #setAside(request: RecoveredRequest): void {
    if (!request.suspected) mark(request, 'rests');
  }
}

function mark({ journal, entry }: RecoveredRequest, works: 'works' | 'rests'): void {
  journal.markWorking(entry, works);
}
