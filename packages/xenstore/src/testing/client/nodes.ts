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
    name: 'walks a tree, parents first, as deep as it is asked to',
    run: async (store) => {
      const names = Array.from({ length: 100 }, (_, index) => `n${index}`);
      await Promise.all(names.map((name) => store.write(`/client/w/${name}/below`, name)));
      await store.write('/client/w', 'top');
      const walked = [];
      for await (const node of store.walk('/client/w')) walked.push(node);
      assert.deepEqual(
        { ...walked[0], children: walked[0].children.length },
        {
          path: '/client/w',
          depth: 0,
          value: 'top',
          children: 100,
        },
      );
      const expected = walked[0].children.flatMap((name) => [`/client/w/${name}`, `/client/w/${name}/below`]);
      assert.deepEqual(
        walked.slice(1).map(({ path }) => path),
        expected,
      );
      assert.deepEqual(walked.at(-1), {
        path: expected.at(-1),
        depth: 2,
        value: walked[0].children.at(-1),
        children: [],
      });
      const shallow = await store.transaction(async (tx) => {
        const paths = [];
        for await (const { path } of tx.walk('/client/w', { depth: 1 })) paths.push(path);
        return paths;
      });
      assert.equal(shallow.length, 101);
      for await (const { path } of store.walk('/client/w')) if (path !== '/client/w') break;
      await assert.rejects(store.walk('/client/no').next(), { code: 'ENOENT', op: 'walk', path: '/client/no' });
      const aborted = store.walk('/client/w', { signal: AbortSignal.abort(new Error('enough')) });
      await assert.rejects(aborted.next(), { message: 'enough' });
    },
  },
  {
    name: 'walks past what goes meanwhile',
    run: async (store) => {
      await Promise.all(['a/1', 'a/2', 'b', 'c'].map((name) => store.mkdir(`/client/m/${name}`)));
      const seen = [];
      for await (const { path } of store.walk('/client/m')) {
        seen.push(path);
        // What was asked for already is told as it was then.
        if (path === '/client/m/a') await store.remove('/client/m/a');
      }
      assert.deepEqual(seen.sort(), ['/client/m', '/client/m/a', '/client/m/b', '/client/m/c']);
    },
  },
  {
    name: 'says which domain is unknown, where a daemon refuses a node to it',
    run: async (store) => {
      await store.write('/client/p', 'x');
      const refused = await store.setPermissions('/client/p', [{ domid: 7777, access: 'n' }]).catch((error) => error);
      // oxenstored takes any number.
      if (refused !== undefined) {
        assert.equal(
          refused.message,
          'xenstore setPermissions /client/p: ENOENT, the daemon knows no domain 7777, which is to own the node',
        );
      }
      await store.setPermissions('/client/p', [{ domid: 0, access: 'n' }]);
      await assert.rejects(store.setPermissions('/client/no', [{ domid: 0, access: 'n' }]), {
        message: 'xenstore setPermissions /client/no: ENOENT, no such node',
      });
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
