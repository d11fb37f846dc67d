import { expect, it } from 'vitest';
import { Cleanup } from './cleanup.js';

it('undoes everything once, the last first, and rejects with the first error', async () => {
  const undone: string[] = [];
  const cleanup = new Cleanup();
  cleanup.defer(() => undone.push('first'));
  cleanup.use({
    async [Symbol.asyncDispose]() {
      undone.push('second');
      throw new Error('second');
    },
  });
  cleanup.use({
    [Symbol.dispose]() {
      undone.push('third');
      throw new Error('third');
    },
  });
  await expect(cleanup[Symbol.asyncDispose]()).rejects.toThrow('third');
  expect(undone).toEqual(['third', 'second', 'first']);
  await cleanup[Symbol.asyncDispose]();
  expect(undone).toHaveLength(3);
});
