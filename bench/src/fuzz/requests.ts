import {
  type Abi,
  BlkifOp,
  BlkifStatus,
  encodeSegment,
  MAX_SEGMENTS,
  RequestWriter,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
} from '@xenpv/blkif';
import { type DiskModel, SECTORS_PER_PAGE } from './model.js';
import type { FuzzPage, Pages } from './pages.js';
import type { Random } from './random.js';

const { okay, error, eopnotsupp } = BlkifStatus;
const POISON = 0x5a5a5a5a;
/** A reference that was never given. */
const NO_GREF = 0x7ffffff0;

/** One request on its way. */
export interface FuzzRequest {
  /** For messages. */
  readonly kind: string;
  readonly words: Int32Array;
  /** The operation that the answer names. */
  readonly operation: number;
  /** Checks the answer and gives everything back. What is wrong, in words, or undefined. */
  readonly answered: (operation: number, status: number) => string | undefined;
}

/** A piece of a page. */
interface Segment {
  readonly page: FuzzPage;
  readonly first: number;
  readonly last: number;
}

export interface RequestFactoryOptions {
  readonly random: Random;
  readonly model: DiskModel;
  readonly pages: Pages;
  readonly abi: Abi;
  /** 0: none are offered. */
  readonly maxIndirectSegments: number;
  /** Whether the storage fails now and then. */
  readonly odd: boolean;
}

/** How often each kind is made. */
const WEIGHTS = {
  read: 25,
  write: 20,
  indirectRead: 15,
  indirectWrite: 12,
  barrier: 3,
  emptyBarrier: 2,
  refusedBarrier: 4,
  flush: 3,
  flushWithData: 2,
  discard: 3,
  malformed: 7,
};

/** Makes requests of all kinds, good and bad, and knows what their answers must be. */
export class RequestFactory {
  readonly #o: RequestFactoryOptions;

  constructor(options: RequestFactoryOptions) {
    this.#o = options;
  }

  /** Undefined when there are no pages for it, or no range that is free. */
  make(idLow: number, idHigh: number): FuzzRequest | undefined {
    const { random, maxIndirectSegments } = this.#o;
    const kind = random.weighted(WEIGHTS);
    const words = new Int32Array(this.#o.abi.slotWords);
    // What is not written is no zero in a real ring.
    for (let i = 0; i < words.length; i++) words[i] = random.below(2 ** 32);
    const writer = new RequestWriter(words, this.#o.abi);
    switch (kind) {
      case 'read':
        return this.#direct(kind, BlkifOp.read, writer, idLow, idHigh);
      case 'write':
        return this.#direct(kind, BlkifOp.write, writer, idLow, idHigh);
      case 'barrier':
        return this.#direct(kind, BlkifOp.writeBarrier, writer, idLow, idHigh);
      case 'flushWithData':
        return this.#direct(kind, BlkifOp.flushDiskcache, writer, idLow, idHigh);
      case 'indirectRead':
      case 'indirectWrite': {
        if (maxIndirectSegments === 0) return this.#direct(kind, BlkifOp.read, writer, idLow, idHigh);
        const operation = kind === 'indirectRead' ? BlkifOp.read : BlkifOp.write;
        return this.#indirect(kind, operation, writer, idLow, idHigh);
      }
      case 'emptyBarrier':
        writer.readWrite(BlkifOp.writeBarrier, 0, idLow, idHigh, 0);
        return this.#plain(kind, words, BlkifOp.writeBarrier, [okay, eopnotsupp]);
      case 'flush':
        writer.readWrite(BlkifOp.flushDiskcache, 0, idLow, idHigh, 0);
        return this.#plain(kind, words, BlkifOp.flushDiskcache, [okay, eopnotsupp]);
      case 'refusedBarrier':
        return this.#refused(kind, BlkifOp.writeBarrier, writer, idLow, idHigh);
      case 'discard':
        return this.#discard(writer, idLow, idHigh);
      case 'malformed':
        return this.#malformed(writer, idLow, idHigh);
    }
  }

  #plain(kind: string, words: Int32Array, operation: number, statuses: readonly number[]): FuzzRequest {
    const { odd } = this.#o;
    const answered = (itsOperation: number, status: number) => {
      const right = statuses.includes(status) || (odd && status === error);
      if (itsOperation === operation && right) return undefined;
      return `operation ${itsOperation}, status ${status}; expected ${operation}, ${statuses.join(' or ')}`;
    };
    return { kind, words, operation, answered };
  }

  /** Segments of `count` pages, whole ones or parts; or undefined. */
  #segments(count: number): Segment[] | undefined {
    const { random, pages } = this.#o;
    const taken = pages.take(count);
    if (!taken) return undefined;
    const whole = random.below(10) < 6;
    return taken.map((page) => {
      const first = whole ? 0 : random.below(SECTORS_PER_PAGE);
      return { page, first, last: whole ? SECTORS_PER_PAGE - 1 : random.from(first, SECTORS_PER_PAGE - 1) };
    });
  }

  #direct(
    kind: string,
    operation: number,
    writer: RequestWriter,
    idLow: number,
    idHigh: number,
  ): FuzzRequest | undefined {
    const segments = this.#segments(this.#o.random.from(1, MAX_SEGMENTS));
    if (!segments) return undefined;
    return this.#transfer(kind, operation, writer.words, segments, [], (sector) => {
      writer.readWrite(operation, segments.length, idLow, idHigh, sector);
      for (const [i, { page, first, last }] of segments.entries()) writer.segment(i, page.gref, first, last);
    });
  }

  #indirect(
    kind: string,
    operation: number,
    writer: RequestWriter,
    idLow: number,
    idHigh: number,
  ): FuzzRequest | undefined {
    const { random, pages, maxIndirectSegments } = this.#o;
    const count = random.oneIn(4) ? maxIndirectSegments : random.from(1, Math.min(maxIndirectSegments, 48));
    const segments = this.#segments(count);
    if (!segments) return undefined;
    const lists = pages.take(Math.ceil(count / SEGMENTS_PER_INDIRECT_PAGE));
    if (!lists) {
      pages.give(segments.map(({ page }) => page));
      return undefined;
    }
    return this.#transfer(kind, operation, writer.words, segments, lists, (sector) => {
      writer.indirect(operation, count, idLow, idHigh, sector);
      for (const [i, list] of lists.entries()) writer.indirectGref(i, list.gref);
      for (const [i, { page, first, last }] of segments.entries()) {
        const list = lists[Math.floor(i / SEGMENTS_PER_INDIRECT_PAGE)];
        encodeSegment(list.words, (i % SEGMENTS_PER_INDIRECT_PAGE) * SEGMENT_WORDS, page.gref, first, last);
      }
    });
  }

  /** A request whose data is known. */
  #transfer(
    kind: string,
    operation: number,
    words: Int32Array,
    segments: readonly Segment[],
    lists: readonly FuzzPage[],
    write: (sector: number) => void,
  ): FuzzRequest | undefined {
    const { random, model, pages, odd } = this.#o;
    const how = operation === BlkifOp.read ? 'read' : 'change';
    const sectors = segments.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    const sector = model.take(random, sectors, how);
    const giveBack = () => pages.give([...segments.map(({ page }) => page), ...lists]);
    if (sector < 0) {
      giveBack();
      return undefined;
    }
    const version = how === 'read' ? 0 : model.newVersion();
    let at = sector;
    for (const { page, first, last } of segments) {
      if (how === 'read') page.words.fill(POISON, first * 128, (last + 1) * 128);
      else for (let place = first; place <= last; place++) model.fill(page.words, place, at++, version);
    }
    write(sector);
    const optional = operation === BlkifOp.writeBarrier || operation === BlkifOp.flushDiskcache;
    const answered = (itsOperation: number, status: number) => {
      const right = status === okay || (odd && status === error) || (optional && status === eopnotsupp);
      let wrong: string | undefined;
      if (itsOperation !== operation || !right) {
        wrong = `operation ${itsOperation}, status ${status}; expected ${operation}, 0`;
      } else if (how === 'read') {
        if (status === okay) wrong = this.#checkRead(segments, sector);
      } else if (status !== eopnotsupp) {
        model.set(sector, sectors, status === okay ? version : undefined);
      }
      model.give(sector, sectors, how);
      giveBack();
      return wrong;
    };
    return { kind: `${kind} of ${segments.length} segments at sector ${sector}`, words, operation, answered };
  }

  #checkRead(segments: readonly Segment[], sector: number): string | undefined {
    let at = sector;
    for (const { page, first, last } of segments) {
      for (let place = first; place <= last; place++, at++) {
        if (!this.#o.model.holds(page.words, place, at)) return `wrong data in sector ${at}`;
      }
    }
    return undefined;
  }

  /** Zeroes or what was there, as the storage likes. In whole pages: less zeroes parts of a file's blocks in memory. */
  #discard(writer: RequestWriter, idLow: number, idHigh: number): FuzzRequest | undefined {
    const { random, model } = this.#o;
    const pages = random.from(1, 32);
    const taken = model.take(random, (pages + 1) * SECTORS_PER_PAGE, 'change');
    if (taken < 0) return undefined;
    const sector = Math.ceil(taken / SECTORS_PER_PAGE) * SECTORS_PER_PAGE;
    writer.discard(0, idLow, idHigh, sector, pages * SECTORS_PER_PAGE);
    const plain = this.#plain('discard', writer.words, BlkifOp.discard, [okay, eopnotsupp]);
    const answered = (operation: number, status: number) => {
      model.set(sector, pages * SECTORS_PER_PAGE, undefined);
      model.give(taken, (pages + 1) * SECTORS_PER_PAGE, 'change');
      return plain.answered(operation, status);
    };
    return { ...plain, answered };
  }

  /** A range beyond the end, or a segment that leaves its page. */
  #refused(
    kind: string,
    operation: number,
    writer: RequestWriter,
    idLow: number,
    idHigh: number,
  ): FuzzRequest | undefined {
    const { random, model, pages } = this.#o;
    const taken = pages.take(1);
    if (!taken) return undefined;
    const beyond = random.oneIn(2);
    const end = model.pages * SECTORS_PER_PAGE;
    writer.readWrite(operation, 1, idLow, idHigh, beyond ? end - random.below(4) : 0);
    writer.segment(0, taken[0].gref, beyond ? 0 : 6, beyond ? 7 : random.pick([5, 8, 31]));
    return this.#giving(this.#plain(kind, writer.words, operation, [error, eopnotsupp]), taken);
  }

  #giving(plain: FuzzRequest, taken: readonly FuzzPage[]): FuzzRequest {
    const answered = (operation: number, status: number) => {
      this.#o.pages.give(taken);
      return plain.answered(operation, status);
    };
    return { ...plain, answered };
  }

  #malformed(writer: RequestWriter, idLow: number, idHigh: number): FuzzRequest | undefined {
    const { random, maxIndirectSegments, pages } = this.#o;
    const { words } = writer;
    const bad = [error, eopnotsupp];
    switch (random.below(7)) {
      case 0: {
        const operation = random.pick([4, 7, 99, 255]);
        writer.readWrite(operation, 1, idLow, idHigh, 0);
        return this.#plain('unknown operation', words, operation, [eopnotsupp]);
      }
      case 1:
        writer.readWrite(BlkifOp.write, random.pick([0, 12, 255]), idLow, idHigh, 0);
        return this.#plain('wrong number of segments', words, BlkifOp.write, bad);
      case 2:
        writer.readWrite(BlkifOp.read, 1, idLow, idHigh, 0);
        writer.segment(0, NO_GREF, 0, 7);
        return this.#plain('read to a bad grant', words, BlkifOp.read, bad);
      case 3:
        return this.#refused('write out of range', BlkifOp.write, writer, idLow, idHigh);
      case 4:
        writer.discard(0, idLow, idHigh, this.#o.model.pages * SECTORS_PER_PAGE - 1, 1000);
        return this.#plain('discard beyond the end', words, BlkifOp.discard, bad);
      case 5: {
        const inner = random.pick([2, 3, 5, 9]);
        writer.indirect(inner, 1, idLow, idHigh, 0);
        writer.indirectGref(0, NO_GREF);
        return this.#plain('indirect request of another operation', words, inner, bad);
      }
      default: {
        if (maxIndirectSegments === 0) return undefined;
        const taken = pages.take(1);
        if (!taken) return undefined;
        // A page without the list, a list of bad grants, or too long a list.
        const how = random.below(3);
        for (let i = 0; i < 32; i++) encodeSegment(taken[0].words, i * SEGMENT_WORDS, NO_GREF, 0, 7);
        const count = how === 2 ? maxIndirectSegments + 1 : random.from(1, Math.min(32, maxIndirectSegments));
        writer.indirect(BlkifOp.read, count, idLow, idHigh, 0);
        writer.indirectGref(0, how === 0 ? NO_GREF : taken[0].gref);
        return this.#giving(this.#plain('bad indirect read', words, BlkifOp.read, bad), taken);
      }
    }
  }
}
