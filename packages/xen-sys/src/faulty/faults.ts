import { constants } from 'node:os';
import { XenSysError } from '../errors.js';
import type { ProviderFeatures } from '../provider.js';
import { FAULT_OPERATIONS, type FaultKinds, type FaultOccasion, type FaultOperation, type FaultPlan } from './plan.js';

/** How often each operation was called, and how often the plan hit one; common to all threads. */
export class FaultCounts {
  /** Two words for each operation: its calls, its hits. */
  readonly words: Int32Array;

  constructor(words?: Int32Array) {
    this.words = words ?? new Int32Array(new SharedArrayBuffer(FAULT_OPERATIONS.length * 8));
  }

  /** Calls of `operation` until now, with those that a fault happened to. */
  calls(operation: FaultOperation): number {
    return Atomics.load(this.words, wordOf(operation));
  }

  /** Faults that happened to `operation`. */
  hits(operation: FaultOperation): number {
    return Atomics.load(this.words, wordOf(operation) + 1);
  }

  /** Faults that happened in all. */
  get total(): number {
    return FAULT_OPERATIONS.reduce((sum, operation) => sum + this.hits(operation), 0);
  }
}

/** The plan, and what came of it. */
export class Faults {
  readonly plan: FaultPlan;
  readonly counts: FaultCounts;

  constructor(plan: FaultPlan, counts: FaultCounts) {
    this.plan = plan;
    this.counts = counts;
  }

  /** Whether the provider is to be without `feature`. */
  lacks(feature: keyof ProviderFeatures): boolean {
    return this.plan.lacks?.includes(feature) === true;
  }

  /** Counts a call of `operation`, and says what happens to it. */
  next<Op extends FaultOperation>(
    operation: Op,
    about: Omit<FaultKinds[Op]['call'], 'number'>,
  ): FaultKinds[Op]['fault'] | undefined {
    const { words } = this.counts;
    const number = Atomics.add(words, wordOf(operation), 1) + 1;
    const planned: unknown = this.plan[operation];
    const fault =
      typeof planned === 'function' ? planned({ ...about, number }) : occasion(planned as FaultOccasion, number);
    if (fault !== undefined) Atomics.add(words, wordOf(operation) + 1, 1);
    return fault;
  }

  /** As {@link next}, for an operation that can only be refused: throws. `op` is as errors spell it. */
  check<Op extends 'map' | 'allocate' | 'bindUnbound' | 'bindInterdomain' | 'mapForeign' | Opening>(
    operation: Op,
    op: string,
    about: Omit<FaultKinds[Op]['call'], 'number'>,
  ): void {
    const fault = this.next(operation, about);
    if (fault === undefined) return;
    const message = `${op}: ${fault.error}, as the plan of faults says of call ${this.counts.calls(operation)}`;
    throw new XenSysError(fault.error, op, message, { errno: constants.errno[fault.error] });
  }
}

type Opening = 'openEventChannels' | 'openGrantTable' | 'openGrantAllocator' | 'openForeignMemory' | 'connectXenstore';

function occasion(planned: FaultOccasion | readonly FaultOccasion[] | undefined, number: number): unknown {
  if (planned === undefined) return undefined;
  const all: readonly FaultOccasion[] = Array.isArray(planned) ? planned : [planned as FaultOccasion];
  return all.find(({ at, times = 1 }) => number >= at && number < at + times);
}

function wordOf(operation: FaultOperation): number {
  return FAULT_OPERATIONS.indexOf(operation) * 2;
}
