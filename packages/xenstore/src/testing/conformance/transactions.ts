import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './run.js';
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

/** Isolation, conflicts, what the tests of QEMU's internal store look at (test-xs-node.c). */
export const transactionCases: readonly ConformanceCase[] = [
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
  {
    name: 'rm in a transaction (QEMU: tx_rm)',
    run: async ({ a, b }) => {
      await a.write('/case/x/deep', '1');
      const tx = await a.begin();
      const inside = [await a.remove('/case/x', tx), await a.read('/case/x/deep', tx), await b.read('/case/x/deep')];
      return [...inside, await a.end(tx, 'T'), await b.read('/case/x/deep'), await b.read('/case/x')];
    },
    expected: ['OK', 'ENOENT', '1', 'OK', 'ENOENT', 'ENOENT'],
  },
  {
    name: 'removed and written again in a transaction (QEMU: tx_resurrect)',
    run: async ({ a }) => {
      await a.write('/case/x/deep', '1');
      await a.write('/case/x/other', '1');
      const tx = await a.begin();
      await a.remove('/case/x', tx);
      await a.write('/case/x/deep', '2', tx);
      return [await a.end(tx, 'T'), await a.read('/case/x/deep'), await a.read('/case/x/other')];
    },
    expected: ['OK', '2', 'ENOENT'],
  },
  {
    name: 'removed, and its parent written again (QEMU: tx_resurrect2)',
    run: async ({ a }) => {
      await a.write('/case/x/deep', '1');
      const tx = await a.begin();
      await a.remove('/case/x', tx);
      await a.write('/case/x', 'again', tx);
      return [await a.end(tx, 'T'), await a.read('/case/x'), await a.list('/case/x')];
    },
    expected: ['OK', 'again', ''],
  },
  {
    name: 'created and removed in a transaction',
    run: async ({ a }) => {
      await a.mkdir('/case');
      const tx = await a.begin();
      await a.write('/case/x/y', '1', tx);
      await a.remove('/case/x', tx);
      return [await a.end(tx, 'T'), await a.list('/case')];
    },
    expected: ['OK', ''],
  },
  {
    name: 'permissions in a transaction',
    run: async ({ a }) => {
      await a.mkdir('/case/x');
      const tx = await a.begin();
      const done = await a.ask(XsOp.setPermissions, ['/case/x', 'r0', 'b5'], tx);
      const before = [done, await a.permissions('/case/x'), await a.permissions('/case/x', tx)];
      return [...before, await a.end(tx, 'T'), await a.permissions('/case/x')];
    },
    expected: ['OK', 'n0|', 'r0|b5|', 'OK', 'r0|b5|'],
  },
  {
    name: 'a transaction that is over, or never was, is ENOENT',
    run: async ({ a }) => {
      const tx = await a.begin();
      await a.end(tx, 'T');
      return [await a.read('/', tx), await a.end(tx, 'T'), await a.write('/case/x', '1', 54321)];
    },
    expected: ['ENOENT', 'ENOENT', 'ENOENT'],
  },
  {
    name: 'a failed commit ends the transaction',
    run: async ({ a, b }) => {
      await a.write('/case/x', '0');
      const tx = await a.begin();
      await a.read('/case/x', tx);
      await b.write('/case/x', '1');
      return [await a.end(tx, 'T'), await a.end(tx, 'F')];
    },
    expected: ['EAGAIN', 'ENOENT'],
  },
  {
    name: 'a transaction belongs to its connection',
    run: async ({ a, b }) => {
      const tx = await a.begin();
      return [await b.read('/', tx), await b.end(tx, 'T'), await a.end(tx, 'T')];
    },
    expected: ['ENOENT', 'ENOENT', 'OK'],
  },
  {
    name: 'an end says T or F',
    run: async ({ a }) => {
      const tx = await a.begin();
      return [await a.end(tx, 'X'), await a.ask(XsOp.transactionEnd, [], tx), await a.end(tx, 'F')];
    },
    expected: ['EINVAL', 'EINVAL', 'OK'],
  },
  {
    name: 'no transaction begins inside another',
    run: async ({ a }) => {
      const tx = await a.begin();
      const inner = await a.ask(XsOp.transactionStart, [''], tx);
      await a.end(tx, 'F');
      return inner;
    },
    expected: 'EBUSY',
  },
  {
    name: 'several transactions of one connection are independent',
    run: async ({ a }) => {
      const [one, two] = [await a.begin(), await a.begin()];
      await a.write('/case/x', '1', one);
      const seen = await a.read('/case/x', two);
      return [one !== two, seen, await a.end(two, 'F'), await a.end(one, 'T'), await a.read('/case/x')];
    },
    expected: [true, 'ENOENT', 'OK', 'OK', '1'],
  },
  {
    name: 'transactions end with their connection',
    run: async (scene) => {
      const other = await scene.open();
      await other.write('/case/x', 'lost', await other.begin());
      await other.close();
      return [await scene.a.write('/case/y', '1'), await scene.a.read('/case/x')];
    },
    expected: ['OK', 'ENOENT'],
  },
  {
    name: 'a refused request does not end the transaction',
    run: async ({ a }) => {
      const tx = await a.begin();
      const refusals = [await a.read('/case/no', tx), await a.write('/case//x', '1', tx)];
      return [...refusals, await a.write('/case/x', '1', tx), await a.end(tx, 'T'), await a.read('/case/x')];
    },
    expected: ['ENOENT', 'EINVAL', 'OK', 'OK', '1'],
  },
];
