import assert from 'node:assert/strict';
import type { ClientCase } from './case.js';

/** Watches, and waits that are made of them. */
export const watchClientCases: readonly ClientCase[] = [
  {
    name: 'watches',
    run: async (store, open) => {
      const other = await open();
      await using watch = await store.watch('/client/x');
      assert.deepEqual(await watch.next(), { done: false, value: { path: '/client/x' } });
      await other.write('/client/x/y', 1);
      assert.equal((await watch.next()).value?.path, '/client/x/y');
      await other.remove('/client');
      assert.equal((await watch.next()).value?.path, '/client/x');
    },
  },
  {
    name: 'watches with a depth',
    run: async (store) => {
      await using watch = await store.watch('/client', { depth: 1 });
      await watch.next();
      await store.write('/client/x/y', 1);
      await store.write('/client/x', 1);
      assert.equal((await watch.next()).value?.path, '/client/x');
    },
  },
  {
    name: 'has a thousand watches and loses none of their events',
    run: async (store, open) => {
      const other = await open();
      const paths = Array.from({ length: 1000 }, (_, i) => `/client/${i}`);
      const watches = await Promise.all(paths.map((path) => store.watch(path)));
      await Promise.all(watches.map((watch) => watch.next()));
      await Promise.all(paths.map((path) => other.write(`${path}/x`, 1)));
      const seen = await Promise.all(watches.map(async (watch) => (await watch.next()).value?.path));
      assert.deepEqual(
        seen,
        paths.map((path) => `${path}/x`),
      );
      await Promise.all(watches.map((watch) => watch.close()));
    },
  },
  {
    name: 'waits until what it reads says so',
    run: async (store, open) => {
      const other = await open();
      const looks: (string | undefined)[] = [];
      const waiting = store.waitFor(async (look) => {
        const [a, b] = await Promise.all([look.tryRead('/client/a'), look.tryRead('/client/b')]);
        looks.push(`${a}${b}`);
        return a === '1' && b === '1' ? 'both' : undefined;
      });
      await other.write('/client/a', 1);
      await other.write('/client/b', 0);
      await other.write('/client/b', 1);
      assert.equal(await waiting, 'both');
      assert.equal(looks.at(-1), '11');
    },
  },
  {
    name: 'waits with a signal, and leaves no watch behind',
    run: async (store) => {
      const abort = new AbortController();
      const waiting = store.waitFor(
        async (look) => {
          const value = await look.tryRead('/client/no');
          setImmediate(() => abort.abort(new Error('enough')));
          return value;
        },
        { signal: abort.signal },
      );
      await assert.rejects(waiting, { message: 'enough' });
      await store.write('/client/no', 1);
      assert.equal(await store.waitFor((look) => look.tryRead('/client/no')), '1');
    },
  },
];
