import { Random } from '../program/random.js';
import { mutate, type Parts } from './mutate.js';
import type { Target } from './target.js';

/** What `inputs` came to. Those of the corpus are not counted. */
export interface BytesResult {
  readonly done: number;
  readonly failure?: { readonly seed: number; readonly bytes: Buffer; readonly message: string };
}

/** Reads the corpus as it is, and then inputs made from it, the first from `seed`, until one shows a fault. */
export async function readInputs(
  target: Target,
  corpus: readonly Parts[],
  { seed, inputs, until = Number.POSITIVE_INFINITY }: { seed: number; inputs: number; until?: number },
): Promise<BytesResult> {
  const attempt = async (bytes: Buffer, random: Random, from: number) => {
    try {
      await target.read(bytes, random);
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { seed: from, bytes, message };
    }
    return undefined;
  };
  for (const parts of corpus) {
    const failure = await attempt(Buffer.concat(parts), new Random(seed), seed);
    if (failure) return { done: 0, failure };
  }
  let done = 0;
  for (; done < inputs && performance.now() < until; done++) {
    const random = new Random(seed + done);
    const failure = await attempt(mutate(random, corpus), random, seed + done);
    if (failure) return { done, failure };
  }
  return { done };
}
