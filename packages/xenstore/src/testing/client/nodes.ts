import assert from 'node:assert/strict';
import type { ClientCase } from './case.js';

/** Values, directories, permissions. */
export const nodeClientCases: readonly ClientCase[] = [
  {
    name: 'reads what it wrote: text, bytes, numbers, booleans',
    run: async (store) => {
      await store.write('/client/text', 'grüße');
      await store.write('/client/bytes', Uint8Array.of(0, 255));
      await store.write('/client/number', 51712);
      await store.write('/client/boolean', false);
      assert.equal(await store.read('/client/text'), 'grüße');
      assert.deepEqual(await store.readBytes('/client/bytes'), Uint8Array.of(0, 255));
      assert.equal(await store.read('/client/number'), '51712');
      assert.equal(await store.read('/client/boolean'), '0');
    },
  },
  {
    name: 'tells what is missing',
    run: async (store) => {
      assert.equal(await store.tryRead('/client/no'), undefined);
      assert.equal(await store.exists('/client/no'), false);
      assert.equal(await store.tryDirectory('/client/no'), undefined);
      await assert.rejects(store.read('/client/no'), { code: 'ENOENT', op: 'read', path: '/client/no' });
      await store.mkdir('/client/yes');
      assert.equal(await store.exists('/client/yes'), true);
      assert.deepEqual(await store.directory('/client/yes'), []);
      await store.remove('/client/yes');
      await store.remove('/client/yes/nor/below');
      assert.equal(await store.exists('/client/yes'), false);
    },
  },
  {
    name: 'lists a directory of any size',
    run: async (store) => {
      const names = Array.from({ length: 1000 }, (_, i) => `a-child-with-a-name-${i}`);
      await Promise.all(names.map((name) => store.mkdir(`/client/${name}`)));
      assert.deepEqual((await store.directory('/client')).sort(), names.sort());
    },
  },
  {
    name: 'reads and sets permissions',
    run: async (store) => {
      await store.mkdir('/client/x');
      assert.deepEqual(await store.getPermissions('/client/x'), [{ domid: 0, access: 'n' }]);
      await store.setPermissions('/client/x', [
        { domid: 0, access: 'r' },
        { domid: 5, access: 'b' },
      ]);
      assert.deepEqual(await store.getPermissions('/client/x'), [
        { domid: 0, access: 'r' },
        { domid: 5, access: 'b' },
      ]);
    },
  },
  {
    name: 'has ten thousand requests pending',
    run: async (store) => {
      await store.write('/client/x', 'value');
      const values = await Promise.all(Array.from({ length: 10_000 }, () => store.read('/client/x')));
      assert.deepEqual([...new Set(values)], ['value']);
    },
  },
];
