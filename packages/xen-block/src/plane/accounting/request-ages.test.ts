import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RequestAges } from './request-ages.js';
import { RingCounters } from './ring-counters.js';

function ages() {
  const counters = new RingCounters();
  return { counters, ages: new RequestAges(counters.buffer) };
}

describe('the age of the oldest request in flight', () => {
  it('is that of the oldest, whatever ends first', () => {
    const { counters, ages: of } = ages();
    of.nextSpan(0);
    const first = counters.began();
    of.nextSpan(1000);
    const second = counters.began();
    of.nextSpan(2000);
    expect(of.oldest(5000)).toBe(4000);
    counters.ended(first);
    expect(of.oldest(5000)).toBe(3000);
    counters.ended(second);
    expect(of.oldest(5000)).toBe(0);
  });

  it('is told by a thread that does nothing any more', () => {
    const { counters, ages: of } = ages();
    counters.began();
    for (let now = 0; now < 200_000; now += 1000) of.nextSpan(now);
    expect(of.oldest(200_000)).toBe(200_000);
  });

  it('is never too great, and short by one interval at most, as long as there are spans', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('begin' as const), n: fc.constant(0) }),
      fc.record({ do: fc.constant('end' as const), n: fc.nat(100) }),
      fc.record({ do: fc.constant('tick' as const), n: fc.integer({ min: 1, max: 3000 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const { counters, ages: of } = ages();
        const inFlight: { span: number; at: number; seen: number }[] = [];
        let now = 0;
        for (const { do: action, n } of steps) {
          if (action === 'begin') inFlight.push({ span: counters.began(), at: now, seen: Number.POSITIVE_INFINITY });
          if (action === 'end' && inFlight.length > 0) {
            const [{ span }] = inFlight.splice(n % inFlight.length, 1);
            counters.ended(span);
          }
          if (action === 'tick') {
            now += n;
            of.nextSpan(now);
            for (const request of inFlight) request.seen = Math.min(request.seen, now);
          }
          const oldest = inFlight.reduce((most, { at }) => Math.max(most, now - at), 0);
          const seen = inFlight.reduce((most, request) => Math.max(most, now - request.seen), 0);
          expect(of.oldest(now)).toBeLessThanOrEqual(oldest);
          expect(of.oldest(now)).toBeGreaterThanOrEqual(seen);
        }
      }),
    );
  });

  it('stays right for the oldest when every span has some', () => {
    const { counters, ages: of } = ages();
    for (let now = 0; now < 100_000; now += 1000) {
      counters.began();
      of.nextSpan(now + 1000);
    }
    expect(of.oldest(100_000)).toBe(99_000);
  });
});
