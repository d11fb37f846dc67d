import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Budget, sharedNow } from './budget.js';

const NOW = 1e9;

/** Takes requests of so many bytes one by one whenever it may, until `end`; returns what was done. */
function takeAll(budget: Budget, bytes: number, end: number): { requests: number; bytes: number } {
  let requests = 0;
  for (let now = NOW; now < end; ) {
    if (budget.requests(now) >= 1 && budget.bytes(now) > 0) {
      budget.charge(1, bytes, now);
      requests++;
    } else {
      now += Math.max(0.01, budget.wait(now));
    }
  }
  return { requests, bytes: requests * bytes };
}

describe('a budget', () => {
  it('limits nothing at first', () => {
    const budget = new Budget();
    expect([budget.limited, budget.requests(NOW), budget.bytes(NOW), budget.wait(NOW)]).toEqual([
      false,
      Infinity,
      Infinity,
      0,
    ]);
  });

  it('lets through what it allows, never more than a burst beyond, and hardly less', () => {
    const limits = fc.record(
      {
        iops: fc.integer({ min: 1, max: 100_000 }),
        bandwidth: fc.integer({ min: 512, max: 2 ** 33 }),
        iopsBurst: fc.integer({ min: 1, max: 1000 }),
        bandwidthBurst: fc.integer({ min: 1, max: 2 ** 26 }),
      },
      { requiredKeys: [] },
    );
    const bytes = fc.integer({ min: 512, max: 1 << 20 });
    fc.assert(
      fc.property(limits, bytes, (given, size) => {
        if (given.iops === undefined && given.bandwidth === undefined) return;
        const budget = new Budget();
        budget.set(given);
        const seconds = 0.5 + 100 / (given.iops ?? Infinity) + (20 * size) / (given.bandwidth ?? Infinity);
        // So many steps that a property takes no time.
        if (Math.min((given.iops ?? Infinity) * seconds, ((given.bandwidth ?? Infinity) / size) * seconds) > 20_000)
          return;
        const done = takeAll(budget, size, NOW + seconds * 1000);
        const { iops = Infinity, bandwidth = Infinity } = given;
        const mostRequests = iops * seconds + Math.max(1, given.iopsBurst ?? iops * 0.1, iops * 0.01) + 1;
        const mostBytes =
          bandwidth * seconds + Math.max(1, given.bandwidthBurst ?? bandwidth * 0.1, bandwidth * 0.01) + size;
        expect(done.requests).toBeLessThanOrEqual(mostRequests);
        expect(done.bytes).toBeLessThanOrEqual(mostBytes);
        expect(done.requests).toBeGreaterThanOrEqual(0.95 * Math.min(iops * seconds, (bandwidth * seconds) / size) - 1);
      }),
      { numRuns: 300 },
    );
  });

  it('lets a request pass that is larger than what it allows in a second, and has the next one wait for it', () => {
    const budget = new Budget();
    budget.set({ bandwidth: 4096 });
    expect(budget.bytes(NOW)).toBeGreaterThan(0);
    budget.charge(1, 40_960, NOW);
    expect(budget.bytes(NOW + 9000)).toBeLessThanOrEqual(0);
    expect(budget.wait(NOW)).toBeCloseTo(9900, 3);
    expect(budget.bytes(NOW + 9901)).toBeGreaterThan(0);
  });

  it('gives a burst after a quiet time, however long that was', () => {
    const budget = new Budget();
    budget.set({ iops: 10, iopsBurst: 3 });
    budget.charge(3, 0, NOW);
    expect([budget.requests(NOW), budget.requests(NOW + 100), budget.requests(NOW + 1e7)]).toEqual([0, 1, 3]);
  });

  it('takes other limits at once, and none', () => {
    const budget = new Budget();
    budget.set({ iops: 1 });
    budget.charge(1000, 0, NOW);
    expect(budget.wait(NOW)).toBeGreaterThan(900_000);
    budget.set({ iops: 1000 });
    expect(budget.requests(NOW)).toBe(100);
    budget.charge(1000, 0, NOW);
    budget.set({});
    expect([budget.limited, budget.requests(NOW), budget.wait(NOW)]).toEqual([false, Infinity, 0]);
  });

  it('counts what every thread has done', async () => {
    const budget = new Budget();
    budget.set({ iops: 1 });
    const { buffer } = budget;
    const each = 20_000;
    // The budget of a thread that has no TypeScript: the same lock around the same sum.
    const source = `
      const { workerData: { buffer, each, now } } = require('node:worker_threads');
      const values = new Float64Array(buffer);
      const lock = new Int32Array(buffer, 48, 1);
      for (let i = 0; i < each; i++) {
        while (Atomics.compareExchange(lock, 0, 0, 1) !== 0);
        values[4] = Math.max(values[4], now) + 1000;
        Atomics.store(lock, 0, 0);
      }`;
    const worker = new Worker(source, { eval: true, workerData: { buffer, each, now: NOW } });
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    for (let i = 0; i < each; i++) budget.charge(1, 0, NOW);
    await ended;
    expect(budget.wait(NOW)).toBeCloseTo(2 * each * 1000, 0);
  });

  it('has one clock on all threads', async () => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const [s, n] = process.hrtime();
       parentPort.postMessage(s * 1000 + n / 1e6);`,
      { eval: true },
    );
    const before = sharedNow();
    const theirs = await new Promise<number>((resolve) => worker.once('message', resolve));
    expect(theirs).toBeGreaterThan(before - 1);
    expect(theirs).toBeLessThan(sharedNow() + 1);
  });
});
