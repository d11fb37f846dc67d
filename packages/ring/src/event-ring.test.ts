import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DISPLAY_EVENT_PAGE,
  type EventPageLayout,
  EventRing,
  FRAMEBUFFER_PAGE,
  KEYBOARD_PAGE,
  SOUND_EVENT_PAGE,
} from './index.js';

const PAGE = 4096;

const directions: [string, EventPageLayout][] = [
  ['keyboard input', KEYBOARD_PAGE.input],
  ['keyboard output', KEYBOARD_PAGE.output],
  ['framebuffer input', FRAMEBUFFER_PAGE.input],
  ['framebuffer output', FRAMEBUFFER_PAGE.output],
  ['display input', DISPLAY_EVENT_PAGE.input],
  ['sound input', SOUND_EVENT_PAGE.input],
];

function ends(layout: EventPageLayout, at = 0) {
  const page = new Uint8Array(new SharedArrayBuffer(3 * PAGE), PAGE, PAGE);
  const view = new DataView(page.buffer, page.byteOffset);
  view.setInt32(layout.consumer, at | 0, true);
  view.setInt32(layout.producer, at | 0, true);
  return { page, view, producer: new EventRing(page, layout), consumer: new EventRing(page, layout) };
}

describe.each(directions)('%s', (_name, layout) => {
  it('gives events in their order, whole, until it is full, and then again', () => {
    const { producer, consumer } = ends(layout);
    const event = new Uint8Array(layout.eventBytes);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < layout.length; i++) expect(producer.put(event.fill(i + round))).toBe(true);
      expect([producer.put(event), consumer.queued]).toEqual([false, layout.length]);
      const got = new Uint8Array(layout.eventBytes);
      for (let i = 0; i < layout.length; i++) {
        expect(consumer.take(got)).toBe(true);
        expect([...got]).toEqual(Array.from(got, () => (i + round) & 0xff));
      }
      expect([consumer.take(got), consumer.queued]).toEqual([false, 0]);
    }
  });

  it('stays within its events, whatever the peer writes', () => {
    const { page, view, producer, consumer } = ends(layout);
    fc.assert(
      fc.property(fc.integer(), fc.integer(), (mine, theirs) => {
        page.fill(0);
        view.setInt32(layout.consumer, mine, true);
        view.setInt32(layout.producer, theirs, true);
        const ahead = (theirs - mine) >>> 0;
        expect(consumer.queued).toBe(ahead <= layout.length ? ahead : -1);
        const put = producer.put(new Uint8Array(layout.eventBytes).fill(255));
        expect(put).toBe(ahead < layout.length);
        const end = layout.events + layout.eventBytes * layout.length;
        for (const [at, byte] of page.entries()) {
          const inside = at >= layout.events && at < end;
          const index = (at & ~3) === layout.consumer || (at & ~3) === layout.producer;
          if (byte !== 0 && !inside && !index) throw new Error(`byte ${at} was written to`);
        }
      }),
      {
        numRuns: 100,
        examples: [
          [0, -1],
          [0, layout.length + 1],
          [-1, 0],
        ],
      },
    );
  });
});

it('a stream of events stays whole and in order across 2^32, and is not read while an index is hostile', () => {
  const put = fc.record({ kind: fc.constant('put' as const), number: fc.nat(0xffff) });
  const take = fc.record({ kind: fc.constant('take' as const) });
  const hostile = fc.record({ kind: fc.constant('hostile' as const), ahead: fc.integer() });
  const steps = fc.array(fc.oneof({ weight: 4, arbitrary: put }, { weight: 3, arbitrary: take }, hostile), {
    minLength: 20,
    maxLength: 400,
  });
  fc.assert(
    fc.property(fc.constantFrom(...directions), fc.nat(300), steps, ([, layout], before, all) => {
      const { view, producer, consumer } = ends(layout, 2 ** 32 - before);
      const got = new Uint16Array(layout.eventBytes / 2);
      const bytes = new Uint8Array(got.buffer);
      // A place comes twice within a full ring where indices begin anew, for 2^32 is no multiple of the length: there
      // two events that wait at a time may be in one place, as the headers have it. So few wait there.
      const placeOf = (index: number) => (index >>> 0) % layout.length;
      const waiting: { readonly at: number; readonly number: number }[] = [];
      for (const step of all) {
        const at = view.getUint32(layout.producer, true);
        if (step.kind === 'put') {
          if (waiting.some((one) => placeOf(one.at) === placeOf(at)) && waiting.length < layout.length) continue;
          const done = producer.put(new Uint8Array(got.fill(step.number).buffer));
          expect(done).toBe(waiting.length < layout.length);
          if (done) waiting.push({ at, number: step.number });
        } else if (step.kind === 'take') {
          const next = waiting.shift();
          expect(consumer.take(bytes)).toBe(next !== undefined);
          if (next) expect(got.every((half) => half === next.number)).toBe(true);
        } else {
          // The peer's index is one of those that cannot be, for a moment.
          const mine = view.getUint32(layout.consumer, true);
          if (step.ahead >>> 0 <= layout.length) continue;
          view.setUint32(layout.producer, (mine + step.ahead) >>> 0, true);
          bytes.fill(0xa5);
          expect([consumer.queued, consumer.take(bytes), view.getUint32(layout.consumer, true)]).toEqual([
            -1,
            false,
            mine,
          ]);
          expect(bytes.every((byte) => byte === 0xa5)).toBe(true);
          view.setUint32(layout.producer, at, true);
        }
        expect(consumer.queued).toBe(waiting.length);
      }
    }),
    { numRuns: 300 },
  );
});

describe('an event', () => {
  const { input } = KEYBOARD_PAGE;

  it('that is shorter has zeroes behind it; one that is longer is refused', () => {
    const { producer, consumer } = ends(input);
    for (let i = 0; i < input.length; i++) {
      producer.put(new Uint8Array(40).fill(7));
      consumer.take(new Uint8Array(40));
    }
    producer.put(Uint8Array.of(1, 2));
    const got = new Uint8Array(40).fill(9);
    expect(consumer.take(got)).toBe(true);
    expect([...got]).toEqual([1, 2, ...Array.from({ length: 38 }, () => 0)]);
    expect(() => producer.put(new Uint8Array(41))).toThrow(expect.objectContaining({ code: 'ERR_RING_OVERFLOW' }));
  });

  it('is taken in part by a target that is shorter', () => {
    const { producer, consumer } = ends(input);
    producer.put(Uint8Array.of(1, 2, 3));
    const got = new Uint8Array(2);
    expect([consumer.take(got), ...got, consumer.queued]).toEqual([true, 1, 2, 0]);
  });

  it('has its place by its number, as the headers have it', () => {
    const number = 2 ** 32 - 1;
    const { page, producer, consumer } = ends(input, number);
    producer.put(Uint8Array.of(5));
    expect(page[input.events + (number % 51) * 40]).toBe(5);
    expect(consumer.take(new Uint8Array(1))).toBe(true);
    producer.put(Uint8Array.of(6));
    expect(page[input.events]).toBe(6);
  });
});

it.each([
  ['a page that is too small', { ...KEYBOARD_PAGE.output }, 4000, 0],
  ['a page that is not aligned', { ...KEYBOARD_PAGE.output }, PAGE, 1],
  ['events of no size', { ...KEYBOARD_PAGE.output, eventBytes: 0 }, PAGE, 0],
  ['events of an odd size', { ...KEYBOARD_PAGE.output, eventBytes: 6 }, PAGE, 0],
  ['no events', { ...KEYBOARD_PAGE.output, length: 0 }, PAGE, 0],
])('%s is refused', (_what, layout, bytes, at) => {
  const page = new Uint8Array(new ArrayBuffer(2 * PAGE), at, bytes);
  expect(() => new EventRing(page, layout)).toThrow(expect.objectContaining({ code: 'ERR_RING_MEMORY' }));
});
