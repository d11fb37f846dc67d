import assert from 'node:assert/strict';
import type { CustomField } from '../../tree/fields.js';
import { readTree, type TreeSchema, treeSchema, writeTree } from '../../tree/tree.js';
import { watchTree } from '../../tree/tree-watch.js';
import type { ClientCase } from './case.js';

const schema = {
  state: { type: 'uint' },
  mode: { type: 'enum', values: ['r', 'w'], default: 'r' },
  'feature-discard': { type: 'boolean', optional: true },
} as const satisfies TreeSchema;

const version: CustomField<{ readonly major: number; readonly minor: number }> = {
  type: 'custom',
  expected: 'two numbers, as 4.20',
  parse: (text) => {
    const [, major, minor] = /^(\d+)\.(\d+)$/.exec(text)!;
    return { major: Number(major), minor: Number(minor) };
  },
  format: ({ major, minor }) => `${major}.${minor}`,
};

const nested = treeSchema({
  version,
  ring: {
    type: 'tree',
    optional: true,
    keys: {
      ref: { type: 'gref' },
      port: { type: 'port', default: 0 },
      deep: { type: 'tree', keys: { x: { type: 'string', optional: true } } },
    },
  },
});

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
    name: 'reads and writes directories in a directory, and contents of any form',
    run: async (store) => {
      await writeTree(store, '/client/n', nested, { version: { major: 4, minor: 20 } });
      assert.deepEqual(await readTree(store, '/client/n', nested), {
        version: { major: 4, minor: 20 },
        ring: undefined,
      });
      await writeTree(store, '/client/n', nested, { ring: { ref: 7, deep: { x: 'y' } } });
      const { ring } = await readTree(store, '/client/n', nested);
      assert.deepEqual(ring, { ref: 7, port: 0, deep: { x: 'y' } });
      assert.equal(await store.read('/client/n/ring/deep/x'), 'y');
      await writeTree(store, '/client/n', nested, { ring: null });
      assert.deepEqual(await store.directory('/client/n'), ['version']);
    },
  },
  {
    name: 'refuses wrong content of what is nested, and names it',
    run: async (store) => {
      await store.write('/client/n/version', 'four');
      await assert.rejects(readTree(store, '/client/n', nested), {
        code: 'ERR_INVALID_VALUE',
        message: 'xenstore read /client/n/version: ERR_INVALID_VALUE, it holds "four", expected two numbers, as 4.20',
      });
      await store.write('/client/n/version', '4.20');
      await store.mkdir('/client/n/ring');
      await assert.rejects(readTree(store, '/client/n', nested), { code: 'ENOENT', path: '/client/n/ring/ref' });
      const changes = { version: { major: 1, minor: 1 }, ring: { ref: -1 } };
      await assert.rejects(writeTree(store, '/client/n', nested, changes), {
        code: 'ERR_INVALID_VALUE',
        path: '/client/n/ring/ref',
      });
      assert.equal(await store.read('/client/n/version'), '4.20');
      const unknown = { ring: { no: 1 } } as object;
      await assert.rejects(writeTree(store, '/client/n', nested, unknown), {
        code: 'ERR_INVALID_ARGUMENT',
        path: '/client/n/ring/no',
      });
      await assert.rejects(writeTree(store, '/client/n', nested, { ring: 'x' } as object), {
        code: 'ERR_INVALID_VALUE',
        path: '/client/n/ring',
      });
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
