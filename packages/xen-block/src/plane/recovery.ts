/**
 * How the requests of an earlier process are carried out again. Most are at once, with all that is new. One of them may be
 * what has killed that process, and would kill this one: while our own code works on such a request its journal says so,
 * and a death meanwhile is a strike.
 * - After one strike a request is carried out alone: others of the ring before it, nothing beside it.
 * - After two it is answered with an error, and told.
 * - A death while only the storage works is no strike: nobody else's kill costs a request. One that was recovered for the
 *   ninth time is carried out alone, and then the storage's time counts too.
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
/** Lives in which a request was recovered and not answered, after which it is suspected. */
const PATIENCE = 8;

interface Parts {
  readonly rings: RingSet;
  readonly table: RequestTable;
  /** Puts an entry's request on its way; returns its row. */
  readonly adopt: (ring: BlockRing, entry: number, recovered: number) => number;
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

export class Recovery {
  readonly #parts: Parts;
  /** On their way. */
  #requests: RecoveredRequest[] = [];
  readonly #turns = new Map<BlockRing, Turn[]>();
  readonly #words = new Int32Array(ROW_WORDS);

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Whether any request is still to be carried out. */
  get active(): boolean {
    return this.#requests.length > 0 || this.#turns.size > 0;
  }

  /** Begins with the requests that a ring's journal has. */
  begin(ring: BlockRing, journal: RingJournal, entries: Int32Array): void {
    const atOnce: number[] = [];
    const turns: Turn[] = [];
    for (const entry of entries) {
      const { strikes, lives } = journal.beginLife(entry);
      const suspected = lives > PATIENCE;
      if (strikes >= STRIKES) this.#parts.adopt(ring, entry, Recovered.givenUp);
      else if (strikes > 0 || suspected || (turns.length > 0 && this.#isBarrier(journal, entry))) {
        turns.push({ entry, suspected });
      } else atOnce.push(entry);
    }
    if (turns.length > 0) {
      this.#turns.set(ring, turns);
      ring.inTurns = true;
    }
    ring.left = turns.length;
    for (const entry of atOnce) this.#start(ring, journal, { entry, suspected: false });
    this.#nextTurns();
  }

  /** Before a pass: our own code works on whatever is not at the storage. */
  beforePass(): void {
    this.#drop();
    for (const request of this.#requests) if (!this.#isAtStorage(request)) mark(request, 'works');
  }

  /** The pass has given the storage what it could. */
  started(): void {
    for (const request of this.#requests) if (this.#isAtStorage(request)) this.#rests(request);
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

  /** What was not answered in the pass waits for something. */
  afterPass(): void {
    this.#drop();
    for (const request of this.#requests) this.#rests(request);
    this.#nextTurns();
  }

  /** The ring goes: its requests that were not carried out are left to the next process. */
  forget(ring: BlockRing): void {
    this.#requests = this.#requests.filter((request) => request.ring !== ring);
    this.#turns.delete(ring);
  }

  #isBarrier(journal: RingJournal, entry: number): boolean {
    journal.copySlot(entry, this.#words, 0);
    return requestOperation(this.#words, 0) === BlkifOp.writeBarrier;
  }

  #start(ring: BlockRing, journal: RingJournal, { entry, suspected }: Turn): void {
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

  #nextTurns(): void {
    for (const [ring, turns] of this.#turns) {
      if (ring.stopped || this.#requests.some((request) => request.ring === ring)) continue;
      const turn = turns.shift();
      ring.left = turns.length;
      this.#parts.rings.wake(ring);
      if (turn && ring.journal) this.#start(ring, ring.journal, turn);
      else {
        this.#turns.delete(ring);
        ring.inTurns = false;
      }
    }
  }

  #isAtStorage({ row }: RecoveredRequest): boolean {
    const phase = this.#parts.table.phase[row];
    return phase === Phase.queued || phase === Phase.flushing || phase === Phase.kept;
  }

  #rests(request: RecoveredRequest): void {
    if (!request.suspected) mark(request, 'rests');
  }
}

function mark({ journal, entry }: RecoveredRequest, works: 'works' | 'rests'): void {
  journal.markWorking(entry, works);
}
