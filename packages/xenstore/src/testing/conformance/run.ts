import { isDeepStrictEqual } from 'node:util';
import type { ConformanceCase } from './case.js';
import { type KnownDifference, knownDifferences } from './differences.js';
import { nodeCases } from './nodes.js';
import { permissionCases } from './permissions.js';
import { type ConformanceTarget, Scene } from './scene.js';
import { transactionConflictCases } from './transaction-conflicts.js';
import { transactionCases } from './transactions.js';
import { watchAudienceCases } from './watch-audience.js';
import { watchCases } from './watches.js';
import { wireCases } from './wire-rules.js';

/** What came out of one case. */
export type ConformanceResult =
  | { readonly outcome: 'same' | 'differs' | 'skipped'; readonly note?: string | undefined }
  | { readonly outcome: 'wrong'; readonly observed: unknown; readonly expected: unknown };

/** All cases; their names are unique. */
export const conformanceCases: readonly ConformanceCase[] = [
  ...wireCases,
  ...nodeCases,
  ...permissionCases,
  ...transactionConflictCases,
  ...transactionCases,
  ...watchCases,
  ...watchAudienceCases,
];

/** Runs one case against a server, over a store that is clean where the case looks. */
export async function runConformanceCase(one: ConformanceCase, target: ConformanceTarget): Promise<ConformanceResult> {
  if (one.guests && target.connectGuest === undefined) {
    return { outcome: 'skipped', note: 'this server gives no connection of another domain' };
  }
  const scene = await Scene.set(target);
  try {
    const observed = scene.masked(await one.run(scene));
    const difference: KnownDifference | undefined = knownDifferences[target.kind][one.name];
    const expected = difference === undefined ? one.expected : difference.observed;
    if (!isDeepStrictEqual(observed, expected)) return { outcome: 'wrong', observed, expected };
    return difference === undefined ? { outcome: 'same' } : { outcome: 'differs', note: difference.why };
  } finally {
    await scene.clear();
  }
}

/** Throws, with what was seen and what should have been, unless the server behaves as it is known to. */
export async function checkConformanceCase(one: ConformanceCase, target: ConformanceTarget): Promise<void> {
  const result = await runConformanceCase(one, target);
  if (result.outcome !== 'wrong') return;
  const { observed, expected } = result;
  throw new Error(`${one.name}\n  seen:     ${JSON.stringify(observed)}\n  expected: ${JSON.stringify(expected)}`);
}
