/**
 * What a guest can do wrong on its rings and in xenstore, each on connections of its own. A misbehaviour gets the disk and
 * leaves it in whatever state; it resolves with how many requests were answered as they must be, where they must.
 */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { rawQueue } from '/lab/repo/packages/blkfront/dist/testing.js';
import { BlkifOp, encodeSegment, RequestWriter, SEGMENT_WORDS } from '/lab/repo/packages/blkif/dist/index.js';
import { LAST_SECTOR, NO_GREF, refused, segmentList, WRONG_REQUESTS } from './wrong-requests.mjs';

const BURSTS = 20;
const DISTURBED_EVERY = 4;
const LIST_SEGMENTS = 64;

/** What io/ring.h has at the start of a ring, in words: the producers' indices and from when on events are asked for. */
const REQ_PROD = 0;
const REQ_EVENT = 1;
const RSP_EVENT = 3;
const RING_HEADER_WORDS = 16;

/** Of requests whose answers nobody looks at: not those of rows, which are small. */
let lastId = 0x40000000;

/** Puts `count` requests that `write` makes, without a look at what comes back. */
function burst(disk, count, write) {
  const queue = rawQueue(disk);
  for (let i = 0; i < count && !queue.ring.full; i++) {
    const words = new Int32Array(queue.abi.slotWords);
    write(new RequestWriter(words, queue.abi), words);
    words[queue.abi.idWord] = ++lastId;
    queue.put(words).catch(() => {});
  }
  queue.push();
  return queue;
}

function writeOfPage(writer, gref, sector) {
  writer.readWrite(BlkifOp.write, 1, 0, 0, sector);
  writer.segment(0, gref, 0, LAST_SECTOR);
}

/** A write of as many segments as `list` has at this instant. */
function writeOfList(writer, list, sector) {
  writer.indirect(BlkifOp.write, LIST_SEGMENTS, 0, 0, sector);
  writer.indirectGref(0, list.gref);
}

/** Bursts of good requests, and words that change while the backend looks at them: those that `rewrite` writes. */
async function rewritten(disk, write, rewrite) {
  for (let i = 0; i < BURSTS; i++) {
    const queue = burst(disk, 32, (writer) => write(writer, 8 * i));
    for (let turn = 0; turn < 20_000; turn++) rewrite(queue);
    await sleep(5);
  }
}

export const MISBEHAVIOURS = {
  'wrong requests': (disk, tools) => refused(disk, WRONG_REQUESTS.inRequests, tools),

  'wrong lists of segments': (disk, tools) => refused(disk, WRONG_REQUESTS.inLists, tools),

  'writes to a disk that is only read': (disk, tools) => refused(disk, WRONG_REQUESTS.onReadOnly, tools),

  async 'noise in every slot'(disk, { random }) {
    for (let i = 0; i < BURSTS; i++) {
      burst(disk, 64, (_, words) => {
        for (let at = 0; at < words.length; at++) words[at] = random.word();
      });
      await sleep(5);
    }
  },

  /** Good requests in 112 bytes each, for a backend that takes them for 108. */
  async 'slots of another layout'(disk) {
    const page = rawQueue(disk).page();
    for (let i = 0; i < BURSTS; i++) {
      burst(disk, 32, (writer) => writeOfPage(writer, page.gref, 8 * i));
      await sleep(5);
    }
  },

  async 'slots rewritten after the push'(disk, { random }) {
    const page = rawQueue(disk).page();
    await rewritten(
      disk,
      (writer, sector) => writeOfPage(writer, page.gref, sector),
      ({ shared }) => {
        shared[RING_HEADER_WORDS + random.below(shared.length - RING_HEADER_WORDS)] = random.word();
      },
    );
  },

  /** Words of segments become others that are good, or wrong, or noise. */
  async 'lists rewritten after the push'(disk, { random }) {
    const queue = rawQueue(disk);
    const [page, list] = [queue.page(), queue.page()];
    const words = segmentList(list);
    for (let at = 0; at < LIST_SEGMENTS; at++) encodeSegment(words, at * SEGMENT_WORDS, page.gref, 0, LAST_SECTOR);
    const references = [page.gref, page.gref, page.gref, list.gref, NO_GREF];
    await rewritten(
      disk,
      (writer, sector) => writeOfList(writer, list, sector),
      () => {
        const at = SEGMENT_WORDS * random.below(LIST_SEGMENTS);
        words[at] = random.pick(references);
        words[at + 1] = random.below(8) === 0 ? random.word() : LAST_SECTOR << 8;
      },
    );
  },

  async 'events asked for at random'(disk, { random }) {
    const page = rawQueue(disk).page();
    for (let i = 0; i < BURSTS; i++) {
      const { shared } = burst(disk, 32, (writer) => writeOfPage(writer, page.gref, 8 * i));
      for (let turn = 0; turn < 2000; turn++) {
        shared[RSP_EVENT] = random.word();
        shared[REQ_EVENT] = random.word();
      }
      await sleep(5);
    }
  },

  async 'a producer that runs away'(disk) {
    const queue = rawQueue(disk);
    Atomics.add(queue.shared, REQ_PROD, 1_000_000);
    queue.notify();
    await sleep(200);
  },

  async 'a producer that goes back'(disk) {
    const queue = burst(disk, 16, (writer) => writer.readWrite(BlkifOp.read, 0, 0, 0, 0));
    Atomics.sub(queue.shared, REQ_PROD, 9);
    queue.notify();
    await sleep(200);
  },

  async 'a storm of events'(disk) {
    const queue = rawQueue(disk);
    for (let i = 0; i < BURSTS; i++) {
      for (let turn = 0; turn < 500; turn++) queue.notify();
      await setImmediate();
    }
  },

  async 'a flood of writes'(disk, { seconds }) {
    const end = performance.now() + 1000 * seconds;
    const data = new Uint8Array(Math.min(1 << 20, disk.size));
    let done = 0;
    while (performance.now() < end) {
      await Promise.all([0, 0, 0, 0].map(() => disk.write(0, data).then(() => done++)));
    }
    return done;
  },

  async 'states in any order'(_, { random, write }) {
    for (let i = 0; i < 5 * BURSTS; i++) {
      await write('state', String(random.below(9)));
      if (i % DISTURBED_EVERY === 0) await sleep(10);
    }
  },

  async 'keys of nonsense'(_, { random, write }) {
    const values = ['', '-1', '4294967296', 'x'.repeat(2000), '\x01\x02', '1e9', String(random.word())];
    const keys = ['ring-ref', 'ring-ref0', 'event-channel', 'protocol', 'multi-queue-num-queues', 'ring-page-order'];
    for (const value of values) {
      for (const key of keys) await write(key, value);
      for (const state of ['1', '3', '4']) await write('state', state);
      await sleep(50);
    }
  },

  /** The backend is told of each. */
  async 'a flood of keys'(_, { random, write }) {
    for (let i = 0; i < BURSTS / 4; i++) {
      await Promise.all(Array.from({ length: 50 }, () => write('state', '4')));
      await Promise.all(Array.from({ length: 50 }, (_, key) => write(`odd/${key}`, String(random.word()))));
    }
  },

  /** Its pages and channels go while it is served. */
  async 'a frontend that is gone'(disk, { abandon }) {
    const page = rawQueue(disk).page();
    burst(disk, 32, (writer) => writeOfPage(writer, page.gref, 0));
    abandon();
    await sleep(100);
  },
};
