import { constants } from 'node:os';
import { XenSysError } from '../errors.js';
import type { ProviderFeatures } from '../provider.js';
import { FAULT_OPERATIONS, type FaultOperation, type FaultPlan } from './plan.js';

const FEATURES: readonly string[] = [
  'mapMultiple',
  'grantCopy',
  'foreignMemory',
  'grantAllocator',
] satisfies (keyof ProviderFeatures)[];

/** Refuses a plan that could not do what its author thinks. Error: EINVAL. */
export function checkPlan(plan: FaultPlan): void {
  const { lacks = [], ...operations } = plan;
  checkFeatures(lacks);
  for (const [operation, planned] of Object.entries(operations)) {
    if (!FAULT_OPERATIONS.includes(operation as FaultOperation)) {
      throw bad(`${operation} is no operation that can fail; they are ${FAULT_OPERATIONS.join(', ')}`);
    }
    if (typeof planned === 'function' || planned === undefined) continue;
    const faults: readonly object[] = Array.isArray(planned) ? planned : [planned];
    for (const fault of faults) checkFault(operation, fault);
  }
}

function checkFeatures(lacks: readonly string[]): void {
  for (const feature of lacks) {
    if (!FEATURES.includes(feature)) throw bad(`lacks: ${feature} is no feature; they are ${FEATURES.join(', ')}`);
  }
}

function checkFault(operation: string, fault: object): void {
  const { at, times = 1, error } = fault as { at?: unknown; times?: unknown; error?: unknown };
  if (!Number.isInteger(at) || (at as number) < 1) {
    throw bad(`${operation}: at is ${String(at)}; calls are counted from 1`);
  }
  if (typeof times !== 'number' || !(times >= 1)) {
    throw bad(`${operation}: times is ${String(times)}; give 1 or more, or Infinity`);
  }
  if (error !== undefined && !(typeof error === 'string' && Object.hasOwn(constants.errno, error))) {
    throw bad(`${operation}: ${String(error)} is no errno; give a name such as EAGAIN`);
  }
}

function bad(message: string): XenSysError {
  return new XenSysError('EINVAL', 'faultyProvider', message);
}
