const ROUNDS = 8;
const TRIALS = 8;

/** Milliseconds that `work` takes, by the quickest of several rounds: the others may have been interrupted. */
export function quickest(work: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const begin = performance.now();
    for (let i = 0; i < TRIALS; i++) work();
    least = Math.min(least, (performance.now() - begin) / TRIALS);
  }
  return least;
}
