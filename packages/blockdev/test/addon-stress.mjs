// What addon.test.ts runs, each in a process of its own: node addon-stress.mjs NAME [SEED [ROUNDS [io_uring|threads]]].
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { callOddly, ODD_NUMBERS, Random, SMALL_NUMBERS, takeAway } from '@xenpv/test-support/odd-arguments';
import nodeGypBuild from 'node-gyp-build';

const addon = nodeGypBuild(fileURLToPath(new URL('..', import.meta.url)));
const [, , scenario, seed = '1', rounds = '2000', kind = 'io_uring'] = process.argv;
const uring = kind === 'io_uring';
const random = new Random(Number(seed));

const PAGE = 4096;
const IMAGE_BYTES = 16 * PAGE;
const DEPTH = 8;
const STAGED_WORDS = 6;
const IOV_WORDS = 3;
const [READ, WRITE, FUA, FLUSH, DISCARD, SECURE, ZEROES] = [0, 1, 2, 3, 4, 5, 6];
const EFAULT = -14;

const folder = mkdtempSync(join(tmpdir(), 'addon-stress-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'image');
writeFileSync(path, Buffer.alloc(IMAGE_BYTES, 7));
const image = openSync(path, 'r+');
/** Nothing is lost by it, whatever is done with it. */
const readOnly = openSync('/dev/null', 'r');

const float64 = (length, memory = addon.allocate(8 * length)) =>
  new Float64Array(memory, memory.byteLength - 8 * length, length);
const int32 = (length, memory = addon.allocate(4 * length)) =>
  new Int32Array(memory, memory.byteLength - 4 * length, length);

const uint32 = (length, memory = addon.allocate(4 * length)) =>
  new Uint32Array(memory, memory.byteLength - 4 * length, length);

/** An engine's queue as src/uring uses it, with nothing between it and the addon. */
class Queue {
  static ready = int32(16);
  static ring;
  static reap;

  tags = int32(DEPTH);
  results = int32(DEPTH);
  operations = float64(DEPTH * STAGED_WORDS);
  iov = float64(DEPTH * 4 * IOV_WORDS);
  memory = new Uint8Array(addon.allocate(4 * PAGE));
  inFlight = 0;
  ended = [];

  static open() {
    Queue.ring ??= addon.ringOpen(() => Queue.deliver(), Queue.ready, uring);
    Queue.reap ??= addon.ringReaper(Queue.ring);
    return new Queue();
  }

  static all = new Map();

  static deliver() {
    const count = Queue.reap();
    for (let i = 0; i < count; i++) Queue.all.get(Queue.ready[2 * i])?.take(Queue.ready[2 * i + 1]);
  }

  constructor() {
    const { ring } = Queue;
    this.id = addon.queueOpen(ring, DEPTH, image, image, false, this.tags, this.results);
    this.starter = addon.queueStarter(ring, this.id);
    addon.queueStaging(ring, this.id, this.operations, this.iov);
    addon.queueRegion(ring, this.id, 0, this.memory);
    Queue.all.set(this.id, this);
  }

  stage(at, words, iov = []) {
    this.operations.set(words, at * STAGED_WORDS);
    this.iov.set(iov, words[4] >= 0 && words[4] + iov.length <= this.iov.length ? words[4] : 0);
  }

  start(count) {
    this.starter(count, false);
    this.inFlight += count;
  }

  take(count) {
    this.inFlight -= count;
    for (let i = 0; i < count; i++) this.ended.push([this.tags[i], this.results[i]]);
  }

  async settle() {
    for (; this.inFlight > 0; await nextTurn()) Queue.deliver();
    return this.ended.splice(0);
  }

  close() {
    Queue.all.delete(this.id);
    addon.queueClose(Queue.ring, this.id);
  }
}

/** A read of the image's first page. */
const PAGE_READ = [READ, 42, 0, PAGE, 0, 1];
const PAGE_IOV = [0, 0, PAGE];

async function hasIoUring() {
  const ring = addon.ringOpen(() => {}, int32(2), uring);
  return ring >= 0;
}

/** `rw-p`, `---p`: how the page of an address is mapped; undefined if it is not. */
function protection(address) {
  for (const line of readFileSync('/proc/self/maps', 'latin1').split('\n')) {
    const [, from, to, how] = /^(\w+)-(\w+) (\S+)/.exec(line) ?? [];
    if (Number(`0x${from}`) <= address && address < Number(`0x${to}`)) return how;
  }
  return undefined;
}

const scenarios = {
  async 'odd arguments'() {
    const noop = () => {};
    const queue = (await hasIoUring()) ? Queue.open() : undefined;
    const ring = queue ? Queue.ring : 0;
    const closeQueue = (id, [of]) => typeof id === 'number' && addon.queueClose(of, id);
    const others = (of, id) => (id === queue?.id ? undefined : addon.queueClose(of, id));
    // Rings take much memory of the kernel's: a few of them do.
    let rings = 0;
    let sleepers = 0;
    const calls = await callOddly(
      {
        allocate: { call: addon.allocate, valid: () => [PAGE] },
        address: { call: addon.address, valid: () => [new Uint8Array(8)] },
        ringOpen: {
          call: (onReady, ready, byUring) =>
            typeof onReady === 'function' && ready instanceof Int32Array && rings++ > 4
              ? undefined
              : addon.ringOpen(onReady, ready, byUring),
          valid: () => [noop, int32(4), uring],
        },
        ringReaper: { call: addon.ringReaper, valid: () => [ring] },
        ringEventFd: { call: addon.ringEventFd, valid: () => [ring] },
        // Each keeps its arrays as long as the thread.
        ringSleeper: {
          call: (...given) => (sleepers++ > 200 ? undefined : addon.ringSleeper(...given)),
          valid: () => [ring, readOnly, int32(5), uint32(4), uint32(4), int32(2)],
          fds: [1],
        },
        ringEndSleeps: { call: addon.ringEndSleeps, valid: () => [ring, int32(5)] },
        queueOpen: {
          call: addon.queueOpen,
          valid: () => [ring, DEPTH, readOnly, readOnly, false, int32(DEPTH), int32(DEPTH)],
          fds: [2, 3],
          done: closeQueue,
        },
        queueStaging: { call: addon.queueStaging, valid: () => [ring, queue?.id ?? 0, float64(64), float64(9)] },
        queueRegion: { call: addon.queueRegion, valid: () => [ring, queue?.id ?? 0, 3, new Uint8Array(64)] },
        queueStarter: { call: addon.queueStarter, valid: () => [ring, queue?.id ?? 0] },
        start: {
          call: (count, reap) => queue?.starter(count, reap),
          done: () => queue && Queue.deliver(),
          valid: () => [0, false],
        },
        queueClose: { call: others, valid: () => [ring, 999] },
        range: { call: addon.range, valid: () => [DISCARD, readOnly, false, 0, PAGE, noop], fds: [1] },
        dropCache: { call: addon.dropCache, valid: () => [readOnly, noop], fds: [0] },
        extents: { call: addon.extents, valid: () => [readOnly, 0, PAGE, noop], fds: [0] },
        punch: { call: addon.punch, valid: () => [readOnly, 0, PAGE], fds: [0] },
        directAlignment: { call: addon.directAlignment, valid: () => [readOnly, new Float64Array(2)], fds: [0] },
        lockByte: { call: addon.lockByte, valid: () => [readOnly, 5], fds: [0] },
        unlockByte: { call: addon.unlockByte, valid: () => [readOnly, 5], fds: [0] },
        byteLockedElsewhere: { call: addon.byteLockedElsewhere, valid: () => [readOnly, 5], fds: [0] },
        duplicate: { call: addon.duplicate, valid: () => [readOnly], fds: [0], done: (fd) => fd >= 0 && closeSync(fd) },
        closeDuplicate: { call: addon.closeDuplicate, valid: () => [1e6, noop], fds: [0] },
      },
      { seed: Number(seed), rounds: Number(rounds) },
    );
    console.log(`${calls} calls`);
  },

  /** Whatever is staged, each operation ends once, and nothing outside of the region changes. */
  async 'odd operations'() {
    const queue = Queue.open();
    // The region is in the middle: what lies around it is nobody's.
    queue.memory.fill(0xee);
    addon.queueRegion(Queue.ring, queue.id, 0, queue.memory.subarray(PAGE, 3 * PAGE));
    const numbers = [...ODD_NUMBERS, ...SMALL_NUMBERS];
    const number = (most) => (random.below(3) === 0 ? random.of(numbers) : random.below(most));
    for (let round = 0; round < Number(rounds); round++) {
      const count = 1 + random.below(DEPTH);
      for (let i = 0; i < count; i++) {
        const op = random.of([READ, WRITE, FUA, FLUSH, DISCARD, SECURE, ZEROES, number(9), -number(9), -0x10000]);
        const [at, entries] = [i * 4 * IOV_WORDS, 1 + random.below(4)];
        const iov = Array.from({ length: entries }, () => [number(2), number(2 * PAGE), number(PAGE)]).flat();
        const sum = iov.reduce((total, bytes, word) => (word % IOV_WORDS === 2 ? total + bytes : total), 0);
        // Where zeroes are written there must be a file: all of it lies in the image, or is refused.
        const length = random.below(3) > 0 && sum <= PAGE ? sum : number(PAGE);
        const inside = Number(length) <= PAGE ? length : -1;
        const where =
          random.below(8) > 0 ? random.below(IMAGE_BYTES - PAGE) : random.of([Number.NaN, -1, -0.5, 2 ** 60]);
        queue.stage(i, [op, i, where, inside, random.below(8) > 0 ? at : number(99), number(4)], iov);
      }
      queue.start(count);
      const ended = await queue.settle();
      assert.deepEqual(
        ended.map(([tag]) => tag).sort(),
        Array.from({ length: count }, (_, i) => i),
      );
      for (const [, result] of ended) assert.ok(result > -0x10000 && result <= 4 * PAGE, `result ${result}`);
    }
    for (const outside of [queue.memory.subarray(0, PAGE), queue.memory.subarray(3 * PAGE)]) {
      assert.ok(outside.every((byte) => byte === 0xee));
    }
    queue.close();
  },

  /** Whatever the words of a sleep are, it ends, the ring goes on, and ports come to where they belong. */
  async 'odd sleeps'() {
    const queue = Queue.open();
    const fifo = join(folder, 'events');
    execFileSync('mkfifo', [fifo]);
    const events = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const [words, unmask, eventfds] = [int32(5), uint32(8), int32(16).fill(readOnly)];
    // The array for ports is in the middle: what lies around it is nobody's.
    const around = uint32(24).fill(0xeeeeeeee);
    const ports = around.subarray(8, 16);
    const sleep = addon.ringSleeper(Queue.ring, events, words, unmask, ports, eventfds);
    if (sleep === undefined) return;
    for (let round = 0; round < Number(rounds); round++) {
      eventfds[random.below(16)] = random.of([readOnly, image, events, -1, 99999, 0x7fffffff]);
      unmask.fill(round);
      const odd = () => random.of([0, 1, 4, 7, -1, 2 ** 31 - 1, -(2 ** 31)]);
      // For ever is too long.
      words.set([random.below(3) ? 4 * random.below(3) : odd(), odd(), odd(), random.below(300)]);
      if (random.below(3) === 0) {
        queue.stage(0, PAGE_READ, PAGE_IOV);
        queue.start(1);
      }
      const result = sleep();
      assert.ok(result >= 0 ? result <= 32 : [-11, -62, -9].includes(result), `sleep: ${result}`);
      if (random.below(3) === 0) assert.ok(addon.ringEndSleeps(Queue.ring, words) <= 32);
      for (const [tag, bytes] of await queue.settle()) assert.deepEqual([tag, bytes], [42, PAGE]);
    }
    addon.ringEndSleeps(Queue.ring, words);
    assert.ok([...around.subarray(0, 8), ...around.subarray(16)].every((word) => word === 0xeeeeeeee));
    closeSync(events);
    queue.close();
  },

  async 'closed and closed again'() {
    const queue = Queue.open();
    queue.stage(0, PAGE_READ, PAGE_IOV);
    queue.start(1);
    assert.throws(() => addon.queueClose(Queue.ring, queue.id), RangeError, 'in flight');
    assert.deepEqual(await queue.settle(), [[42, PAGE]]);
    assert.throws(() => addon.queueRegion(Queue.ring, queue.id, 0, new Uint8Array(8)), RangeError, 'region 0 in use');
    queue.close();
    assert.throws(() => queue.close(), RangeError);
    assert.throws(() => queue.starter(0, false), RangeError);
    // Another queue has its number, not its starter.
    const next = Queue.open();
    assert.equal(next.id, queue.id);
    assert.throws(() => queue.starter(0, false), RangeError);
    next.close();
  },

  async 'more than fits'() {
    const queue = Queue.open();
    for (let i = 0; i < DEPTH; i++) queue.stage(i, [READ, i, 0, PAGE, 0, 1], PAGE_IOV);
    assert.throws(() => queue.starter(DEPTH + 1, false), RangeError);
    assert.throws(() => queue.starter(2 ** 32 - 1, false), RangeError);
    queue.start(DEPTH);
    assert.throws(() => queue.starter(1, false), RangeError);
    assert.equal((await queue.settle()).length, DEPTH);
    const bare = addon.queueOpen(Queue.ring, DEPTH, image, image, false, int32(DEPTH), int32(DEPTH));
    assert.throws(() => addon.queueStarter(Queue.ring, bare)(1, false), RangeError, 'no staging');
    addon.queueClose(Queue.ring, bare);
    // What can be taken away is not taken.
    const plain = new Float64Array(DEPTH * STAGED_WORDS);
    assert.throws(() => addon.queueStaging(Queue.ring, queue.id, plain, queue.iov), RangeError);
    assert.throws(() => addon.queueOpen(Queue.ring, 1, image, image, false, new Int32Array(1), int32(1)), RangeError);
    const shared = new Float64Array(new SharedArrayBuffer(8 * DEPTH * STAGED_WORDS));
    addon.queueStaging(Queue.ring, queue.id, shared, queue.iov);
    queue.close();
  },

  /** The buffers go while operations use them, to nobody, and what is collected is collected. */
  async 'buffers taken away'() {
    for (let round = 0; round < 20; round++) {
      const queue = Queue.open();
      addon.queueRegion(Queue.ring, queue.id, 1, new Uint8Array(addon.allocate(PAGE)));
      for (let i = 0; i < 4; i++) queue.stage(i, [READ, i, 0, PAGE, i * IOV_WORDS, 1], [i % 2, 0, PAGE]);
      queue.start(4);
      for (const array of [queue.memory, queue.operations, queue.iov, queue.tags, queue.results]) takeAway(array);
      addon.queueRegion(Queue.ring, queue.id, 1, undefined);
      globalThis.gc();
      // Completions go to memory that nobody sees any more: only their number is known.
      queue.take = function take(count) {
        this.inFlight -= count;
      };
      await queue.settle();
      queue.starter(1, false);
      queue.inFlight++;
      await queue.settle();
      queue.close();
    }
  },

  /** Of a region that is not the queue's any more nothing is read or written. */
  async 'regions that went'() {
    const queue = Queue.open();
    addon.queueRegion(Queue.ring, queue.id, 5, new Uint8Array(addon.allocate(PAGE)));
    addon.queueRegion(Queue.ring, queue.id, 5, undefined);
    for (const region of [1, 5, 6, 2 ** 20, -1, Number.NaN]) {
      queue.stage(0, PAGE_READ, [region, 0, PAGE]);
      queue.start(1);
      assert.deepEqual(await queue.settle(), [[42, EFAULT]]);
    }
    queue.close();
  },

  /** The pages around are there, and nobody's: what lies beside the memory is not another mapping. */
  async 'guard pages'() {
    for (const bytes of [1, PAGE, PAGE + 1, 2 ** 20]) {
      const memory = new Uint8Array(addon.allocate(bytes));
      const start = addon.address(memory);
      assert.equal(memory.byteLength, Math.ceil(bytes / PAGE) * PAGE);
      assert.ok(memory.every((byte) => byte === 0));
      assert.equal(protection(start - 1), '---p');
      assert.equal(protection(start), 'rw-p');
      assert.equal(protection(start + memory.byteLength - 1), 'rw-p');
      assert.equal(protection(start + memory.byteLength), '---p');
    }
    assert.throws(() => addon.allocate(2 ** 32 + 1), RangeError);
  },

  async 'memory is given back'() {
    const mapped = () => readFileSync('/proc/self/statm', 'latin1').split(' ')[0] * PAGE;
    const before = mapped();
    for (let i = 0; i < 64; i++) {
      addon.allocate(2 ** 28);
      globalThis.gc();
      await nextTurn();
    }
    const more = mapped() - before;
    assert.ok(more < 16 * 2 ** 28, `${more} bytes more are mapped`);
  },

  /** Data goes through memory of the addon's own, in parts, at the odd addresses that O_DIRECT refuses. */
  async 'odd addresses'() {
    const direct = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    const queue = Queue.open();
    queue.close();
    queue.id = addon.queueOpen(Queue.ring, DEPTH, direct, image, false, queue.tags, queue.results);
    queue.starter = addon.queueStarter(Queue.ring, queue.id);
    addon.queueStaging(Queue.ring, queue.id, queue.operations, queue.iov);
    addon.queueRegion(Queue.ring, queue.id, 0, queue.memory);
    Queue.all.set(queue.id, queue);
    for (let round = 0; round < 200; round++) {
      const first = 512 * (1 + random.below(4));
      const at = 1 + random.below(1000);
      queue.stage(
        0,
        [random.of([READ, WRITE, FUA]), 42, 512 * random.below(64), 2 * first, 0, 2],
        [...[0, at, first], ...[0, at + first + random.below(2), first]],
      );
      queue.start(1);
      assert.deepEqual(await queue.settle(), [[42, 2 * first]]);
    }
    queue.close();
    closeSync(direct);
  },
};

await scenarios[scenario]();
