import { describe, expect, it } from 'vitest';
import { runRound } from '../host/round.js';
import { drawSetup } from '../host/setup.js';
import { SMALL } from '../testing/small-round.js';
import { MUTANTS } from './mutants.js';

describe('a planted defect is noticed', () => {
  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s', async (_name, mutant) => {
    const { plant, fixed, noticed, seed = 7, requests = 1000 } = mutant;
    using planted = plant();
    const setup = drawSetup(seed, requests, { ...SMALL, ...fixed });
    await expect(runRound(setup, planted)).rejects.toThrow(noticed);
  });
});
