import type { ConformanceCase } from './case.js';
import type { Scene } from './scene.js';

/** Two transactions on two connections: both do their part, the first commits, then the second. */
async function race(
  { a, b }: Scene,
  first: (connection: Scene['a'], transaction: number) => Promise<unknown>,
  second: (connection: Scene['a'], transaction: number) => Promise<unknown>,
): Promise<string[]> {
  const one = await a.begin();
  const two = await b.begin();
  await first(a, one);
  await second(b, two);
  return [await a.end(one, 'T'), await b.end(two, 'T')];
}

/** Isolation: what others see of a transaction, and which changes make it fail. */
export const transactionConflictCases: readonly ConformanceCase[] = [
  {
    name: 'a transaction is seen when it is committed',
    run: async ({ a, b }) => {
      const tx = await a.begin();
      await a.write('/case/x', '1', tx);
      const before = [await a.read('/case/x', tx), await a.read('/case/x'), await b.read('/case/x')];
      return [...before, await a.end(tx, 'T'), await b.read('/case/x')];
    },
    expected: ['1', 'ENOENT', 'ENOENT', 'OK', '1'],
  },
  {
    name: 'an aborted transaction leaves nothing',
    run: async ({ a }) => {
      await a.write('/case/x', 'old');
      const tx = await a.begin();
      await a.write('/case/x', 'new', tx);
      await a.write('/case/y', 'new', tx);
      return [await a.end(tx, 'F'), await a.read('/case/x'), await a.read('/case/y')];
    },
    expected: ['OK', 'old', 'ENOENT'],
  },
  {
    name: 'an empty transaction commits',
    run: async ({ a }) => [await a.end(await a.begin(), 'T'), await a.end(await a.begin(), 'F')],
    expected: ['OK', 'OK'],
  },
  {
    name: 'read, modify, write of the same node: the second fails',
    run: async (scene) => {
      await scene.a.write('/case/x', '0');
      const add: Parameters<typeof race>[1] = async (on, tx) => {
        await on.read('/case/x', tx);
        await on.write('/case/x', '1', tx);
      };
      return [await race(scene, add, add), await scene.a.read('/case/x')];
    },
    expected: [['OK', 'EAGAIN'], '1'],
  },
  {
    name: 'a write outside fails a transaction that read the node',
    run: async ({ a, b }) => {
      await a.write('/case/x', '0');
      const tx = await a.begin();
      await a.read('/case/x', tx);
      await a.write('/case/y', '1', tx);
      await b.write('/case/x', '2');
      return [await a.end(tx, 'T'), await a.read('/case/y')];
    },
    expected: ['EAGAIN', 'ENOENT'],
  },
  {
    name: 'a write outside before the transaction read the node',
    run: async ({ a, b }) => {
      await a.write('/case/x', '0');
      const tx = await a.begin();
      await b.write('/case/x', '2');
      return [await a.read('/case/x', tx), await a.end(tx, 'T')];
    },
    expected: ['2', 'OK'],
  },
  {
    name: 'both only write the same node',
    run: async (scene) => {
      await scene.a.write('/case/x', '0');
      const set = (on: Scene['a'], tx: number) => on.write('/case/x', String(tx), tx);
      return race(scene, set, set);
    },
    expected: ['OK', 'EAGAIN'],
  },
  {
    name: 'both create a child of the same directory',
    run: async (scene) => {
      await scene.a.mkdir('/case');
      return race(
        scene,
        (on, tx) => on.mkdir('/case/one', tx),
        (on, tx) => on.mkdir('/case/two', tx),
      );
    },
    expected: ['OK', 'EAGAIN'],
  },
  {
    name: 'both write different nodes that exist',
    run: async (scene) => {
      await scene.a.write('/case/x', '0');
      await scene.a.write('/case/y', '0');
      return race(
        scene,
        (on, tx) => on.write('/case/x', '1', tx),
        (on, tx) => on.write('/case/y', '1', tx),
      );
    },
    expected: ['OK', 'OK'],
  },
  {
    name: 'both only read',
    run: async (scene) => {
      await scene.a.write('/case/x', '0');
      const look = (on: Scene['a'], tx: number) => on.read('/case/x', tx);
      return race(scene, look, look);
    },
    expected: ['OK', 'OK'],
  },
  {
    name: 'a transaction that only read fails when the node changed',
    run: async ({ a, b }) => {
      await a.write('/case/x', '0');
      const tx = await a.begin();
      await a.read('/case/x', tx);
      await b.write('/case/x', '1');
      return a.end(tx, 'T');
    },
    expected: 'EAGAIN',
  },
  {
    name: 'a transaction that found a node missing fails when it was created',
    run: async ({ a, b }) => {
      await a.mkdir('/case');
      const tx = await a.begin();
      const seen = await a.read('/case/x', tx);
      await a.write('/case/y', '1', tx);
      await b.write('/case/x', '1');
      return [seen, await a.end(tx, 'T')];
    },
    expected: ['ENOENT', 'EAGAIN'],
  },
  {
    name: 'a listing fails the transaction when a child was added',
    run: async ({ a, b }) => {
      await a.mkdir('/case');
      const tx = await a.begin();
      await a.list('/case', tx);
      await b.mkdir('/case/x');
      return a.end(tx, 'T');
    },
    expected: 'EAGAIN',
  },
  {
    name: 'a removal outside fails a transaction below it',
    run: async ({ a, b }) => {
      await a.write('/case/x/y', '0');
      const tx = await a.begin();
      await a.write('/case/x/y', '1', tx);
      await b.remove('/case/x');
      return [await a.end(tx, 'T'), await a.read('/case/x/y')];
    },
    expected: ['EAGAIN', 'ENOENT'],
  },
];
