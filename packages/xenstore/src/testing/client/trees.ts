import assert from 'node:assert/strict';
import { readTree, type TreeSchema, writeTree } from '../../tree/tree.js';
import { watchTree } from '../../tree/tree-watch.js';
import type { ClientCase } from './case.js';

const schema = {
  state: { type: 'uint' },
  mode: { type: 'enum', values: ['r', 'w'], default: 'r' },
  'feature-discard': { type: 'boolean', optional: true },
} as const satisfies TreeSchema;

/** Directories as typed objects. */
export const treeClientCases: readonly ClientCase[] = [
  {
    name: 'reads and writes a directory as an object',
    run: async (store) => {
      await writeTree(store, '/client/d', schema, { state: 4, mode: 'w' });
      assert.deepEqual(await readTree(store, '/client/d', schema), {
        state: 4,
        mode: 'w',
        'feature-discard': undefined,
      });
      await writeTree(store, '/client/d', schema, { mode: null, 'feature-discard': true });
      assert.deepEqual(await readTree(store, '/client/d', schema), {
        state: 4,
        mode: 'r',
        'feature-discard': true,
      });
      assert.deepEqual((await store.directory('/client/d')).sort(), ['feature-discard', 'state']);
    },
  },
  {
    name: 'refuses wrong content of a directory, and says why',
    run: async (store) => {
      await store.write('/client/d/state', '4x');
      await assert.rejects(readTree(store, '/client/d', schema), {
        code: 'ERR_INVALID_VALUE',
        path: '/client/d/state',
        message:
          'xenstore read /client/d/state: ERR_INVALID_VALUE, it holds "4x", expected a whole number from 0 to 4294967295',
      });
      await assert.rejects(readTree(store, '/client/no', schema), { code: 'ENOENT', path: '/client/no/state' });
      await assert.rejects(writeTree(store, '/client/d', schema, { state: -1 }), { code: 'ERR_INVALID_VALUE' });
      assert.equal(await store.read('/client/d/state'), '4x');
    },
  },
  {
    name: 'follows a directory as objects',
    run: async (store, open) => {
      const other = await open();
      const tree = await watchTree(store, '/client/d', schema);
      const statuses: string[] = [];
      for await (const state of tree) {
        statuses.push(state.status === 'present' ? `state ${state.values.state}` : state.status);
        if (statuses.length === 1) await writeTree(other, '/client/d', schema, { state: 1 });
        if (statuses.length === 2) await other.write('/client/d/state', 'nonsense');
        if (statuses.length === 3) await other.write('/client/d/state', 4);
        if (statuses.length === 4) await other.remove('/client/d');
        if (statuses.length === 5) break;
      }
      assert.deepEqual(statuses, ['absent', 'state 1', 'invalid', 'state 4', 'absent']);
    },
  },
];
