/**
 * Requests that are wrong in one thing each, and how each is answered: the rows of io/blkif.h's rules, for which
 * packages/xen-block/src/plane/requests/malformed.test.ts has the same on the emulated host.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { rawQueue } from '/lab/repo/packages/blkfront/dist/testing.js';
import {
  BlkifOp,
  BlkifStatus,
  encodeSegment,
  RequestWriter,
  SEGMENT_WORDS,
} from '/lab/repo/packages/blkif/dist/index.js';

const { read, write, writeBarrier, flushDiskcache, discard, indirect } = BlkifOp;
const { error, eopnotsupp } = BlkifStatus;

/** A reference that was never given. */
export const NO_GREF = 0x7ffffff0;
export const LAST_SECTOR = 7;
const ANSWER_MS = 20_000;
const BEYOND = 2 ** 40;
/** A sector number whose bytes are 2^64. */
const WRAPS = 2 ** 55;

/** A whole page, which is the backend's to read and to write. */
const good = ({ page }) => [page.gref, 0, LAST_SECTOR];
const sectors =
  (first, last) =>
  ({ page }) => [page.gref, first, last];
const gref = (value) => () => [value, 0, LAST_SECTOR];
const readOnly = (pages) => [pages.readOnly, 0, LAST_SECTOR];
const foreign = (pages) => [pages.foreign, 0, LAST_SECTOR];
const many = (count) => Array(count).fill(good);

/** What a segment may have wrong, in a request and in a list alike. */
const WRONG_SEGMENTS = [
  { what: 'a segment that ends before it begins', segments: [good, sectors(5, 2)] },
  { what: 'a segment that ends behind its page', segments: [good, sectors(0, LAST_SECTOR + 1)] },
  { what: 'a segment that leaves its page', operation: read, segments: [sectors(3, 200)] },
  { what: 'a segment of all ones', segments: [good, () => [0xffffffff, 255, 255]] },
  { what: 'a reference that was never given', segments: [good, gref(NO_GREF)] },
  { what: 'a read to a reference that was never given', operation: read, segments: [gref(NO_GREF), good] },
  { what: 'reference 2^32 - 1', segments: [gref(0xffffffff)] },
  { what: 'a read to a page that may only be read', operation: read, segments: [good, readOnly] },
  { what: 'a write from a page of another domain', segments: [good, foreign] },
  { what: 'a read to a page of another domain', operation: read, segments: [foreign] },
  { what: 'sectors beyond the end', sector: BEYOND, segments: [good] },
  { what: 'a sector number that wraps', sector: WRAPS, segments: [good] },
  { what: 'sector 2^64 - 1', sectorWords: -1, segments: [good] },
];

const IN_REQUESTS = [
  ...[4, 7, 77, 255].map((operation) => ({
    what: `operation ${operation}, which does not exist`,
    operation,
    segments: [good],
    status: eopnotsupp,
  })),
  { what: 'a read of no segments', operation: read, segments: [] },
  { what: 'a write of no segments', segments: [] },
  { what: 'one more segment than a request holds', segments: many(11), count: 12 },
  { what: 'a flush of 12 segments', operation: flushDiskcache, segments: many(11), count: 12 },
  { what: '255 segments', segments: many(11), count: 255 },
  { what: 'a barrier beyond the end', operation: writeBarrier, sector: BEYOND, segments: [good] },
  { what: 'a discard beyond the end', operation: discard, sector: 0, sectors: BEYOND },
  { what: 'a discard that wraps', operation: discard, sector: 8, sectors: 2 ** 63 },
  ...WRONG_SEGMENTS,
];

const IN_LISTS = [
  { what: 'no segments', segments: [] },
  { what: 'one more segment than the backend said', segments: many(257) },
  { what: 'more segments than a page of them has', segments: many(512), count: 513 },
  { what: '65535 segments', operation: read, segments: [good], count: 65_535 },
  ...[discard, indirect, flushDiskcache, 255].map((operation) => ({
    what: `operation ${operation} inside`,
    operation,
    segments: [good],
  })),
  { what: 'a list that was never given', segments: many(12), list: () => NO_GREF },
  { what: 'a list at reference 2^32 - 1', operation: read, segments: many(12), list: () => 0xffffffff },
  { what: 'a list in a page of another domain', segments: many(12), list: (pages) => pages.foreign },
  ...WRONG_SEGMENTS,
].map((row) => ({ ...row, isIndirect: true }));

/** What a disk that is only read refuses. */
const ON_READ_ONLY = [
  { what: 'a write', segments: [good] },
  { what: 'an indirect write', segments: many(12), isIndirect: true },
  { what: 'a flush with data', operation: flushDiskcache, segments: [good] },
  { what: 'a barrier with data', operation: writeBarrier, segments: [good] },
  { what: 'a discard', operation: discard, sector: 0, sectors: 8 },
];

export const WRONG_REQUESTS = { inRequests: IN_REQUESTS, inLists: IN_LISTS, onReadOnly: ON_READ_ONLY };

let lastId = 0;

/** The words of a row for the queue. */
function wordsOf(row, queue, pages) {
  const { operation = write, sector = 0, segments = [], count = segments.length } = row;
  const words = new Int32Array(queue.abi.slotWords);
  const writer = new RequestWriter(words, queue.abi);
  const places = segments.map((segment) => segment(pages));
  if (operation === discard && !row.isIndirect) writer.discard(0, 0, 0, sector, row.sectors);
  else if (row.isIndirect) {
    writer.indirect(operation, count, 0, 0, sector);
    writer.indirectGref(0, row.list ? row.list(pages) : pages.list.gref);
    const list = segmentList(pages.list);
    for (const [at, place] of places.entries()) encodeSegment(list, at * SEGMENT_WORDS, ...place);
  } else {
    writer.readWrite(operation, count, 0, 0, sector);
    for (const [at, place] of places.entries()) writer.segment(at, ...place);
  }
  if (row.sectorWords !== undefined) words.fill(row.sectorWords, queue.abi.sectorWord, queue.abi.sectorWord + 2);
  return words;
}

/** A page as a list of segments. */
export function segmentList({ bytes }) {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** Sends each row and compares its answer. Resolves with how many there were. Errors: there is none, or another one. */
export async function refused(disk, rows, { random, grant }) {
  const queue = rawQueue(disk);
  const pages = { page: queue.page(), list: queue.page(), ...(await grant()) };
  for (const row of rows) {
    const words = wordsOf(row, queue, pages);
    words[queue.abi.idWord] = ++lastId;
    words[queue.abi.idWord + 1] = random.word() >>> 16;
    const late = sleep(ANSWER_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${row.what}: no answer in ${ANSWER_MS} ms`);
    });
    const answer = await Promise.race([queue.request(words), late]);
    const { operation = write, status = error } = row;
    if (answer.status !== status || answer.operation !== operation) {
      throw new Error(
        `${row.what}: status ${answer.status} of operation ${answer.operation}, not ${status} of ${operation}`,
      );
    }
  }
  return rows.length;
}
