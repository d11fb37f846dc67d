import { type EngineSubject, runCase } from './cases/bench.js';
import { imageCases } from './cases/images.js';
import { rangesOfAnyLength } from './cases/large.js';
import { queueCases } from './cases/queues.js';
import { refusalCases } from './cases/refusals.js';
import { transferCases } from './cases/transfers.js';
import { believesNoLie, standsRepeatedEnds } from './cases/wrong-results.js';

/** The part of vitest, node:test, mocha or jest that the suite needs. */
export interface TestFramework {
  /** Groups the tests that `body` registers. */
  describe(name: string, body: () => void): unknown;
  /** Registers a test, which fails if `body` rejects. */
  it(name: string, body: () => Promise<void>): unknown;
}

/** Registers the tests that every engine of BlockImage passes. */
export function testEngine({ describe, it }: TestFramework, subject: EngineSubject): void {
  describe(`engine ${subject.name}`, () => {
    for (const each of [...imageCases, ...transferCases, ...refusalCases, ...queueCases]) {
      it(each.name, () => runCase(subject, each));
    }
    const { openLarge, over } = subject;
    if (openLarge) it('discards and zeroes ranges of any length', () => rangesOfAnyLength((size) => openLarge(size)));
    if (!over) return;
    it('takes no result of the image below for success that is not', () => believesNoLie(over));
    it('is not disturbed when the image below ends operations twice, or late', () => standsRepeatedEnds(over));
  });
}
