import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BackRing, FrontRing, RingError, ringSlots } from './index.js';

const U32 = 2 ** 32;
const word = (memory: Uint8Array, index: number) => new Int32Array(memory.buffer, memory.byteOffset + index * 4, 1);

/** A fresh ring whose indices all stand at `at`, and both ends of it. */
function pair({ pages = 1, slotBytes = 112, at = 0, shared = false } = {}) {
  const buffer = shared ? new SharedArrayBuffer(pages * 4096) : new ArrayBuffer(pages * 4096);
  const memory = new Uint8Array(buffer);
  let front = new FrontRing(memory, slotBytes);
  if (at !== 0) {
    word(memory, 0)[0] = word(memory, 2)[0] = at | 0;
    word(memory, 1)[0] = word(memory, 3)[0] = (at + 1) | 0;
    front = FrontRing.attach(memory, slotBytes);
  }
  const back = BackRing.attach(memory, slotBytes);
  const slot = new Int32Array(slotBytes / 4);
  return { memory, front, back, slot };
}

describe('dimensions', () => {
  it.each([
    [0, 32],
    [1, 64],
    [2, 128],
    [3, 256],
    [4, 512],
  ])('order %i has %i slots, for strides of 108 and 112 bytes', (order, slots) => {
    expect(ringSlots(4096 << order, 108)).toBe(slots);
    expect(ringSlots(4096 << order, 112)).toBe(slots);
  });

  it('refuses memory that cannot hold the ring', () => {
    const page = new Uint8Array(4096);
    expect(() => new FrontRing(page, 110)).toThrow(expect.objectContaining({ code: 'ERR_RING_MEMORY' }));
    expect(() => new FrontRing(page.subarray(2), 112)).toThrow(expect.objectContaining({ code: 'ERR_RING_MEMORY' }));
    expect(() => new BackRing(page.subarray(0, 100), 112)).toThrow(RingError);
  });

  it('initialises as SHARED_RING_INIT: indices 0, events 1, the rest 0', () => {
    const memory = new Uint8Array(4096).fill(0xff);
    new FrontRing(memory, 112);
    expect([...new Int32Array(memory.buffer, 0, 4)]).toEqual([0, 1, 0, 1]);
    expect(memory.subarray(16).every((byte) => byte === 0)).toBe(true);
  });
});

describe.each([
  { at: 0, shared: false },
  { at: 0, shared: true },
  { at: U32 - 3, shared: false },
  { at: 2 ** 31 - 2, shared: true },
])('a ring at $at (shared: $shared)', (where) => {
  it('carries requests and responses in order, the whole slot', () => {
    const { front, back, slot } = pair(where);
    for (let n = 0; n < 8; n++) {
      slot.fill(n + 1);
      front.putRequest(slot, 0, 28);
    }
    expect(back.harvest()).toBe(0);
    expect(front.pushRequests()).toBe(true);
    expect(back.harvest()).toBe(8);
    const taken = new Int32Array(28 + 1);
    for (let n = 0; n < 8; n++) {
      expect(back.takeRequest(taken, 1)).toBe((where.at + n) % U32);
      expect([...taken]).toEqual([0, ...new Array(28).fill(n + 1)]);
      slot.fill(~n);
      back.putResponse(slot, 0, 4);
    }
    expect(back.inFlight).toBe(0);
    expect(back.pushResponses()).toBe(true);
    expect(front.harvest()).toBe(8);
    for (let n = 0; n < 8; n++) {
      front.takeResponse(slot, 0, 4);
      expect(slot[3]).toBe(~n);
    }
    expect(front.free).toBe(front.size);
  });

  it('asks for an event only when one is due', () => {
    const { front, back, slot } = pair(where);
    const send = () => {
      front.putRequest(slot, 0, 28);
      return front.pushRequests();
    };
    expect(send()).toBe(true);
    expect(send()).toBe(false);
    expect(back.finalCheck()).toBe(true);
    for (let n = back.harvest(); n > 0; n--) back.takeRequest(slot, 0);
    expect(back.finalCheck()).toBe(false);
    expect(send()).toBe(true);
    back.takeRequest(slot, 0);
    expect(back.finalCheck(3)).toBe(false);
    expect([send(), send(), send(), send()]).toEqual([false, false, true, false]);
    expect(front.finalCheck(2)).toBe(false);
    back.putResponse(slot, 0, 4);
    expect(back.pushResponses()).toBe(false);
    back.putResponse(slot, 0, 4);
    expect(back.pushResponses()).toBe(true);
    expect(back.pushResponses()).toBe(false);
    expect(front.finalCheck()).toBe(true);
  });

  it('takes no more than it can answer', () => {
    const { front, back, slot } = pair(where);
    while (!front.full) front.putRequest(slot, 0, 28);
    front.pushRequests();
    expect(back.harvest()).toBe(32);
    for (let n = 0; n < 32; n++) back.takeRequest(slot, 0);
    expect(back.harvest()).toBe(0);
    expect(back.hasRequests()).toBe(false);
    expect(() => front.putRequest(slot, 0, 28)).toThrow(expect.objectContaining({ code: 'ERR_RING_OVERFLOW' }));
  });

  it('XSA-197: looks at the producer once a pass: what it becomes meanwhile counts in the next one', () => {
    const { memory, front, back, slot } = pair(where);
    for (let n = 0; n < 3; n++) front.putRequest(slot, 0, slot.length);
    front.pushRequests();
    expect(back.harvest()).toBe(3);
    word(memory, 0)[0] += 1_000_000;
    for (let n = 0; n < 3; n++) back.takeRequest(slot, 0);
    expect(back.indices.requestsConsumed).toBe((where.at + 3) >>> 0);
    expect(back.harvest()).toBe(-1);
  });

  it('tells all indices, ours and those that the frontend writes', () => {
    const { memory, front, back, slot } = pair({ at: U32 - 1 });
    front.putRequest(slot, 0, slot.length);
    front.putRequest(slot, 0, slot.length);
    front.pushRequests();
    back.takeRequest(slot, 0);
    expect(back.finalCheck()).toBe(true);
    expect(back.indices).toEqual({
      requestsProduced: 1,
      requestEvent: 0,
      requestsConsumed: 0,
      responsesProduced: U32 - 1,
    });
    word(memory, 0)[0] = -1;
    expect(back.indices.requestsProduced).toBe(U32 - 1);
  });

  it('reports a producer that cannot be', () => {
    const { memory, front, back, slot } = pair(where);
    front.putRequest(slot, 0, 28);
    front.pushRequests();
    back.takeRequest(slot, 0);
    for (const ahead of [33, 34, 2 ** 31, -1, 0]) {
      word(memory, 0)[0] = (where.at + ahead) | 0;
      expect([ahead, back.harvest()]).toEqual([ahead, -1]);
      expect(back.hasRequests()).toBe(true);
    }
    word(memory, 0)[0] = (where.at + 32) | 0;
    expect(back.harvest()).toBe(31);
    for (const ahead of [2, 32, 2 ** 31, -1]) {
      word(memory, 2)[0] = (where.at + ahead) | 0;
      expect([ahead, front.harvest()]).toEqual([ahead, -1]);
    }
  });

  it('is taken up where an earlier backend stopped', () => {
    const { memory, front, back, slot } = pair(where);
    for (let n = 0; n < 5; n++) {
      slot[0] = n;
      front.putRequest(slot, 0, 28);
    }
    front.pushRequests();
    for (let n = 0; n < 4; n++) back.takeRequest(slot, 0);
    back.putResponse(slot, 0, 4);
    back.putResponse(slot, 0, 4);
    back.pushResponses();
    const next = BackRing.attach(memory, 112);
    expect(next.requestsConsumed).toBe((where.at + 2) % U32);
    expect(next.harvest()).toBe(3);
    next.takeRequest(slot, 0);
    expect(slot[0]).toBe(2);
  });

  it('shows a request by its index and takes nothing', () => {
    const { front, back, slot } = pair(where);
    for (let n = 0; n < 3; n++) front.putRequest(slot.fill(n + 1), 0, 28);
    front.pushRequests();
    for (const n of [2, 0, 1, 2]) {
      const shown = new Int32Array(30);
      back.peekRequest(where.at + n, shown, 1);
      expect([...shown]).toEqual([0, ...new Array(28).fill(n + 1), 0]);
    }
    expect([back.harvest(), back.requestsConsumed]).toEqual([3, where.at]);
  });
});

describe('what happens while the other side decides to sleep is not lost', () => {
  const REQ_PROD = 0;
  const REQ_EVENT = 1;
  const RSP_PROD = 2;
  const RSP_EVENT = 3;

  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** Runs `peer` in the very moment before a shared index is written. */
  function meanwhile(index: number, peer: () => void): void {
    const store = Atomics.store;
    vi.spyOn(Atomics, 'store').mockImplementation(((words: Int32Array, at: number, value: number) => {
      if (at !== index) return store(words, at, value);
      vi.restoreAllMocks();
      peer();
      return store(words, at, value);
    }) as typeof Atomics.store);
  }

  it('a request that comes while the backend asks for an event is seen', () => {
    const { front, back, slot } = pair();
    meanwhile(REQ_EVENT, () => {
      front.putRequest(slot, 0, 28);
      // The frontend has seen the old event index, which this request reaches, or one that it does not.
      front.pushRequests();
    });
    expect(back.finalCheck()).toBe(true);
  });

  it('a response that comes while the frontend asks for an event is seen', () => {
    const { front, back, slot } = pair();
    front.putRequest(slot, 0, 28);
    front.pushRequests();
    back.takeRequest(slot, 0);
    meanwhile(RSP_EVENT, () => {
      back.putResponse(slot, 0, 4);
      back.pushResponses();
    });
    expect(front.finalCheck()).toBe(true);
  });

  it('a backend that falls asleep while a request is pushed is woken', () => {
    const { front, back, slot } = pair();
    front.putRequest(slot, 0, 28);
    front.pushRequests();
    back.takeRequest(slot, 0);
    front.putRequest(slot, 0, 28);
    let asleep = false;
    meanwhile(REQ_PROD, () => {
      asleep = !back.finalCheck();
    });
    expect(front.pushRequests()).toBe(true);
    expect(asleep).toBe(true);
  });

  it('a frontend that falls asleep while a response is pushed is woken', () => {
    const { front, back, slot } = pair();
    for (let i = 0; i < 2; i++) front.putRequest(slot, 0, 28);
    front.pushRequests();
    for (let i = 0; i < 2; i++) back.takeRequest(slot, 0);
    back.putResponse(slot, 0, 4);
    back.pushResponses();
    front.takeResponse(slot, 0, 4);
    back.putResponse(slot, 0, 4);
    let asleep = false;
    meanwhile(RSP_PROD, () => {
      asleep = !front.finalCheck();
    });
    expect(back.pushResponses()).toBe(true);
    expect(asleep).toBe(true);
  });
});

it('does not attach to a ring that has overflowed', () => {
  const { memory } = pair();
  word(memory, 0)[0] = 33;
  expect(() => BackRing.attach(memory, 112)).toThrow(expect.objectContaining({ code: 'ERR_RING_OVERFLOW' }));
});

it('attaches to a ring that is full', () => {
  const { memory, front, slot } = pair();
  while (!front.full) front.putRequest(slot, 0, 28);
  front.pushRequests();
  expect(BackRing.attach(memory, 112).harvest()).toBe(32);
});

it('notices an impossible producer while it can take nothing', () => {
  const { memory, front, back, slot } = pair();
  while (!front.full) front.putRequest(slot, 0, 28);
  front.pushRequests();
  for (let n = back.harvest(); n > 0; n--) back.takeRequest(slot, 0);
  word(memory, 0)[0] = 33;
  expect(back.finalCheck()).toBe(true);
  expect(back.harvest()).toBe(-1);
});

it('has no response without a request', () => {
  const { back, slot } = pair();
  expect(() => back.putResponse(slot, 0, 4)).toThrow(expect.objectContaining({ code: 'ERR_RING_OVERFLOW' }));
});

it('loses nothing and wakes whom it must, in any interleaving, across 2^32', () => {
  const step = fc.constantFrom('send', 'push', 'take', 'answer', 'publish', 'collect', 'frontSleep', 'backSleep');
  const input = fc.record({
    at: fc.oneof(fc.constant(0), fc.integer({ min: U32 - 40, max: U32 - 1 }), fc.integer({ min: 0, max: U32 - 1 })),
    slotBytes: fc.constantFrom(16, 108, 112),
    steps: fc.array(step, { maxLength: 400, size: 'max' }),
  });
  fc.assert(
    fc.property(input, ({ at, slotBytes, steps }) => {
      const { front, back, slot } = pair({ at, slotBytes });
      const reply = new Int32Array(slotBytes / 4);
      let sent = 0;
      let taken = 0;
      let answered = 0;
      let collected = 0;
      let frontAsleep = false;
      let backAsleep = false;
      const act: Record<string, () => void> = {
        send: () => {
          if (front.full) return;
          slot.fill(sent++);
          front.putRequest(slot, 0, slot.length);
        },
        push: () => {
          if (front.pushRequests()) backAsleep = false;
        },
        take: () => {
          const n = back.harvest();
          expect(n).toBeGreaterThanOrEqual(0);
          if (n === 0) return;
          back.takeRequest(reply, 0);
          expect([...reply]).toEqual(new Array(reply.length).fill(taken++));
        },
        answer: () => {
          if (back.inFlight === 0) return;
          reply.fill(answered++);
          back.putResponse(reply, 0, 4);
        },
        publish: () => {
          if (back.pushResponses()) frontAsleep = false;
        },
        collect: () => {
          for (let n = front.harvest(); n > 0; n--) {
            front.takeResponse(reply, 0, 4);
            expect(reply[3]).toBe(collected++);
          }
        },
        frontSleep: () => {
          frontAsleep = !front.finalCheck();
        },
        backSleep: () => {
          backAsleep = !back.finalCheck();
        },
      };
      for (const name of steps) {
        act[name]();
        expect(back.inFlight).toBe(taken - answered);
        // Whoever sleeps has nothing published to do, or the wake-up was lost.
        if (frontAsleep) expect(front.hasResponses()).toBe(false);
        if (backAsleep && back.inFlight < back.size) expect(back.hasRequests()).toBe(false);
      }
    }),
  );
});
