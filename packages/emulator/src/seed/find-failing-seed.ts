/** A seed for which a scenario failed, and how. */
export interface FailingSeed {
  /** For {@link EmulatedHostOptions.seed}, to see it fail again. */
  readonly seed: number;
  /** What the scenario threw, or rejected with. */
  readonly error: unknown;
}

/**
 * Runs `scenario` with one seed after the other, until it throws or rejects: the first seed with which it does, or
 * undefined. `EmulatedHost.create({ seed })` with that seed has the same order again.
 */
export async function findFailingSeed(
  scenario: (seed: number) => Promise<unknown>,
  options: {
    /** How many seeds; 100 by default. */
    readonly count?: number | undefined;
    /** The first; 1 by default. */
    readonly first?: number | undefined;
  } = {},
): Promise<FailingSeed | undefined> {
  const { count = 100, first = 1 } = options;
  for (let seed = first; seed < first + count; seed++) {
    try {
      await scenario(seed);
    } catch (error) {
      return { seed, error };
    }
  }
  return undefined;
}
