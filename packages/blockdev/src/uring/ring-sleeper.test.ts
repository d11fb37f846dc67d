import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { constants as system, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { needs } from '@xenpv/test-support';
import { afterAll, afterEach, beforeEach, expect, vi } from 'vitest';
import { BlockOp } from '../block-image.js';
import { openFileImage } from '../file/image.js';
import { allocateMemory } from '../queue/buffer.js';
import { openRingSleeper } from './ring-sleeper.js';
import { threadRing } from './thread-ring.js';

const EAGAIN = -system.errno.EAGAIN;
const ETIME = -system.errno.ETIME;
const FOREVER = -1;
const SECONDS = 1_000_000;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
const path = join(folder, 'disk.img');
writeFileSync(path, new Uint8Array(1 << 20).fill(7));
afterAll(() => rmSync(folder, { recursive: true }));

/** In place of the event-channel device: what is written is read, four bytes a port. So a port that is unmasked fires at once. */
let events = -1;
let count = 0;
beforeEach(() => {
  const fifo = join(folder, `events-${++count}`);
  execFileSync('mkfifo', [fifo]);
  events = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
});
afterEach(() => closeSync(events));

const fire = (...ports: number[]) => writeSync(events, new Uint8Array(Uint32Array.from(ports).buffer));

function ringFd(kind: 'io_uring' | 'threads' = 'io_uring'): number {
  const ring = threadRing(kind);
  return typeof ring === 'string' ? -1 : ring.eventFd;
}

function openSleeper() {
  const sleeper = openRingSleeper(events, ringFd());
  if (sleeper?.end === undefined) throw new Error('no sleeper');
  const { ports, eventfds, unmask } = sleeper;
  const end = () => sleeper.end?.() ?? 0;
  return {
    eventfds,
    /** The ports that fired, or what else ended the sleep. */
    sleep(microseconds: number, { unmasked = [] as number[], others = 0, first = false } = {}) {
      unmask.set(unmasked);
      const found = sleeper.sleep(unmasked.length, others, first, microseconds);
      return found > 0 ? [...ports.subarray(0, found)] : found;
    },
    end() {
      const found = end();
      return found > 0 ? [...ports.subarray(0, found)] : found;
    },
  };
}

/** In the event loop's own turn, with nothing else that it has to do. */
function inEventLoop<T>(work: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setTimeout(() => {
      try {
        resolve(work());
      } catch (error) {
        // What is in flight would never be told of.
        openRingSleeper(events, ringFd())?.end?.();
        reject(error);
      }
    }, 5);
  });
}

const sleeps = {
  name: 'io_uring of Linux 6.1',
  met: () => openRingSleeper(0, ringFd()) !== undefined,
};
const { it } = needs(sleeps);

it('what fired before a sleep, and what fires in it, ends it; what is unmasked goes first', async () => {
  const sleeper = openSleeper();
  fire(7, 8);
  await inEventLoop(() => {
    expect(sleeper.sleep(SECONDS, { first: true })).toEqual([7, 8]);
    expect(sleeper.sleep(2000)).toBe(ETIME);
    // The read of the sleep before is still there.
    expect(sleeper.sleep(SECONDS, { unmasked: [3, 4, 5] })).toEqual([3, 4, 5]);
    expect(sleeper.sleep(2000)).toBe(ETIME);
    expect(sleeper.end()).toBe(0);
  });
});

it('leaves the next event to the event loop once sleeps have ended, and gives what came before', async () => {
  const sleeper = openSleeper();
  const port = new Uint32Array(1);
  await inEventLoop(() => {
    expect(sleeper.sleep(1000, { first: true })).toBe(ETIME);
    expect(sleeper.end()).toBe(0);
    fire(9);
    expect(readSync(events, port)).toBe(4);
    expect(sleeper.end()).toBe(0);
    expect(sleeper.sleep(1000, { first: true })).toBe(ETIME);
    fire(10);
    // The kernel may have read it before it could be asked not to.
    const last = sleeper.end();
    expect(last === 0 ? readSync(events, port) : last).toEqual(last === 0 ? 4 : [10]);
    if (last === 0) expect(port[0]).toBe(10);
  });
});

it('a completion ends a sleep, also with an event that the ring has read on its way', async () => {
  // Past the page cache, so that storage takes a moment, where the file system can do that.
  await using image = await openFileImage(path, { engine: 'io_uring' });
  await using queue = image.createQueue({ depth: 4, memory: allocateMemory(4096) });
  const ended: number[] = [];
  queue.onComplete((tags, _, count) => ended.push(...tags.subarray(0, count)));
  const read = (tag: number) => {
    queue.push(BlockOp.read, tag, 0, 4096, Float64Array.of(0, 0, 4096), 1);
    queue.submit(true);
  };
  const sleeper = openSleeper();
  // The event loop may have something to do as well: the image drops its cached pages.
  const untilEnded = (tag: number) => {
    while (!ended.includes(tag)) {
      expect([0, EAGAIN]).toContain(sleeper.sleep(20 * SECONDS));
      queue.poll();
    }
  };
  await inEventLoop(() => {
    expect(sleeper.sleep(1000, { first: true })).toBe(ETIME);
    for (let tag = 0; tag < 20; tag++) {
      read(tag);
      untilEnded(tag);
      fire(11);
      // By one of these calls the ring reads the event.
      read(100 + tag);
      queue.poll();
      let found = sleeper.sleep(20 * SECONDS);
      while (typeof found === 'number') found = sleeper.sleep(20 * SECONDS);
      expect(found).toEqual([11]);
      queue.poll();
      untilEnded(100 + tag);
    }
    read(200);
    expect(sleeper.end()).toBe(0);
  });
  // Its completion is the event loop's.
  await vi.waitFor(() => expect(ended).toContain(200));
});

it('another engine of the thread ends a sleep, once for each time that it tells of something', async () => {
  await using image = await openFileImage(path, { engine: 'threads', direct: false });
  await using queue = image.createQueue({ depth: 4, memory: allocateMemory(4096) });
  queue.onComplete(() => {});
  const sleeper = openSleeper();
  sleeper.eventfds[0] = ringFd('threads');
  await inEventLoop(() => {
    for (let round = 0; round < 3; round++) {
      queue.push(BlockOp.read, round, 0, 4096, Float64Array.of(0, 0, 4096), 1);
      queue.submit(true);
      expect(sleeper.sleep(20 * SECONDS, { others: 1, first: round === 0 })).toBe(0);
      queue.poll();
      expect(queue.inFlight).toBe(0);
      expect(sleeper.sleep(1000, { others: 1 })).toBe(ETIME);
    }
    expect(sleeper.end()).toBe(0);
  });
});

it('it is the event loop’s turn for its timers, and for what other threads tell it', async () => {
  const sleeper = openSleeper();
  const timer = vi.fn();
  await inEventLoop(() => {
    setTimeout(timer, 3);
    expect(sleeper.sleep(FOREVER, { first: true })).toBe(EAGAIN);
    expect(sleeper.end()).toBe(0);
  });
  await vi.waitFor(() => expect(timer).toHaveBeenCalled());
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
    parentPort.on('message', () => setTimeout(() => parentPort.postMessage('told'), 20));`,
    { eval: true },
  );
  const told = new Promise((resolve) => worker.on('message', resolve));
  worker.postMessage('ask');
  await inEventLoop(() => {
    expect(sleeper.sleep(20 * SECONDS, { first: true })).toBe(EAGAIN);
    // It is so until the loop has had its turn.
    expect(sleeper.sleep(20 * SECONDS)).toBe(EAGAIN);
    expect(sleeper.end()).toBe(0);
  });
  await told;
  await worker.terminate();
});

it('a file that is closed, or of no events, is an error, and no sleep', async () => {
  const closed = openSync(path, 'r');
  const sleeper = openRingSleeper(closed, ringFd());
  closeSync(closed);
  await inEventLoop(() => {
    expect(sleeper?.sleep(0, 0, true, SECONDS)).toBe(-system.errno.EBADF);
    expect(sleeper?.end?.()).toBe(0);
  });
});

it('each port comes once and in its order, whoever reads it', async () => {
  const sleeper = openSleeper();
  await using image = await openFileImage(path, { engine: 'io_uring', direct: false });
  await using queue = image.createQueue({ depth: 4, memory: allocateMemory(4096) });
  let operations = 0;
  queue.onComplete((_tags, _results, count) => {
    operations -= count;
  });
  const total = 3000;
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
    const { writeSync } = require('node:fs');
    let next = 1;
    (function some() {
      const ports = Uint32Array.from({ length: 1 + next % 3 }, () => next++);
      writeSync(workerData.events, new Uint8Array(ports.buffer));
      if (next <= workerData.total) next % 5 ? some() : setTimeout(some, 0);
    })();`,
    { eval: true, workerData: { events, total } },
  );
  const seen: number[] = [];
  const take = (found: number[] | number) => {
    if (typeof found !== 'number') seen.push(...found);
  };
  const room = new Uint32Array(64);
  for (let turn = 0; seen.length < total; turn++) {
    await inEventLoop(() => {
      for (let i = 0; i < turn % 7; i++) {
        take(sleeper.sleep(500, { first: i === 0 }));
        if (turn % 3 === 0 && queue.push(BlockOp.read, i, 0, 4096, Float64Array.of(0, 0, 4096), 1)) {
          operations++;
          queue.submit(turn % 2 === 0);
        }
      }
      take(sleeper.end());
      try {
        take([...room.subarray(0, readSync(events, room) / 4)]);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
      }
    });
  }
  expect(seen).toEqual(Array.from(seen, (_, i) => i + 1));
  await vi.waitFor(() => expect(operations).toBe(0));
  await worker.terminate();
});
