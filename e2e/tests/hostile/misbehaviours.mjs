/**
 * What a guest can do wrong on its rings and in xenstore, each on a connection of its own. A misbehaviour gets the disk and
 * leaves it in whatever state; `answered` counts what the backend answered, where it is to answer.
 */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { rawQueue } from '/lab/repo/packages/blkfront/dist/testing.js';
import { BlkifOp, BlkifStatus, RequestWriter } from '/lab/repo/packages/blkif/dist/index.js';

/** A reference that was never given. */
const NO_GREF = 0x7ffffff0;
const SECTORS_PER_PAGE = 8;
const ANSWER_MS = 20_000;
const BURSTS = 20;
const DISTURBED_EVERY = 4;

/** Where io/ring.h has the producer's index of requests, in words. */
const REQ_PROD = 0;
const RING_HEADER_WORDS = 16;

let lastId = 0;

/** Sends what `write` makes of a slot and waits for the answer. Errors: there is none, or it says OKAY. */
async function refused(disk, random, what, write) {
  const queue = rawQueue(disk);
  const words = new Int32Array(queue.abi.slotWords);
  write(new RequestWriter(words, queue.abi), words);
  words[queue.abi.idWord] = ++lastId;
  words[queue.abi.idWord + 1] = random.word() >>> 16;
  const late = sleep(ANSWER_MS, undefined, { ref: false }).then(() => {
    throw new Error(`${what}: no answer in ${ANSWER_MS} ms`);
  });
  const { status } = await Promise.race([queue.request(words), late]);
  if (status === BlkifStatus.okay) throw new Error(`${what}: the backend says OKAY`);
  return 1;
}

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
  writer.segment(0, gref, 0, SECTORS_PER_PAGE - 1);
}

/** Wrong requests, by name: each is answered with an error. */
const WRONG_REQUESTS = {
  'an operation that does not exist': (writer) => writer.readWrite(77, 1, 0, 0, 0),
  'a reference that was never given': (writer) => writeOfPage(writer, NO_GREF, 0),
  'no segments': (writer) => writer.readWrite(BlkifOp.read, 0, 0, 0, 0),
  'more segments than a request holds': (writer) => {
    writer.readWrite(BlkifOp.write, 11, 0, 0, 0);
    writer.words[0] |= 0xff00;
  },
  'a segment that ends before it begins': (writer) => {
    writer.readWrite(BlkifOp.write, 1, 0, 0, 0);
    writer.segment(0, NO_GREF, 5, 2);
  },
  'a segment that leaves its page': (writer) => {
    writer.readWrite(BlkifOp.read, 1, 0, 0, 0);
    writer.segment(0, NO_GREF, 3, 200);
  },
  'sectors beyond the end': (writer) => writeOfPage(writer, NO_GREF, 2 ** 40),
  'a sector number that wraps': (writer, words) => {
    writeOfPage(writer, NO_GREF, 0);
    words[writer.abi.sectorWord] = words[writer.abi.sectorWord + 1] = -1;
  },
  'a discard beyond the end': (writer) => writer.discard(0, 0, 0, 2 ** 40, 2 ** 40),
  'an indirect request without references': (writer) => writer.indirect(BlkifOp.write, 65_535, 0, 0, 0),
  'an indirect request within an indirect one': (writer) => writer.indirect(BlkifOp.indirect, 12, 0, 0, 0),
};

export const MISBEHAVIOURS = {
  async 'wrong requests'(disk, { random }) {
    let answered = 0;
    for (const [what, write] of Object.entries(WRONG_REQUESTS)) answered += await refused(disk, random, what, write);
    return answered;
  },

  async 'noise in every slot'(disk, { random }) {
    for (let i = 0; i < BURSTS; i++) {
      burst(disk, 64, (_, words) => {
        for (let at = 0; at < words.length; at++) words[at] = random.word();
      });
      await sleep(5);
    }
  },

  /** The words change while the backend looks at them. */
  async 'slots rewritten after the push'(disk, { random }) {
    const page = rawQueue(disk).page();
    for (let i = 0; i < BURSTS; i++) {
      const { shared } = burst(disk, 32, (writer) => writeOfPage(writer, page.gref, 8 * i));
      for (let turn = 0; turn < 20_000; turn++) {
        shared[RING_HEADER_WORDS + random.below(shared.length - RING_HEADER_WORDS)] = random.word();
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
    for (let i = 0; i < 10 * BURSTS; i++) {
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

  /** Its pages and channels go while it is served. */
  async 'a frontend that is gone'(disk, { abandon }) {
    const page = rawQueue(disk).page();
    burst(disk, 32, (writer) => writeOfPage(writer, page.gref, 0));
    abandon();
    await sleep(100);
  },
};
