import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';

/** What can be done inside a transaction (as QEMU's test-xs-node.c looks at it), and how one ends. */
export const transactionCases: readonly ConformanceCase[] = [
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
