import assert from 'node:assert/strict';
import type { ClientCase } from './case.js';

/** What a toolstack asks of the daemon. */
export const daemonClientCases: readonly ClientCase[] = [
  {
    name: 'asks for domains and features',
    run: async (store) => {
      assert.equal(await store.getDomainPath(7), '/local/domain/7');
      assert.equal(await store.isDomainIntroduced(0), true);
      assert.equal(await store.isDomainIntroduced(7777), false);
      assert.equal(typeof (await store.getFeatures()), 'number');
    },
  },
  {
    name: 'controls the daemon',
    run: async (store) => {
      // The C daemon refuses what it does not know, oxenstored has an answer to everything.
      const answer = await store.control('no-such-command', ['x']).catch((error) => error.code);
      assert.ok(typeof answer === 'string', String(answer));
      const signal = AbortSignal.abort(new Error('enough'));
      await assert.rejects(store.control('no-such-command', [], { signal }), { message: 'enough' });
    },
  },
  {
    name: 'resets its watches, and has others afterwards',
    run: async (store, open) => {
      const other = await open();
      const before = await other.watch('/client/r');
      await before.next();
      const loop = before.next();
      const transaction = await other.begin();
      const kept = await store.watch('/client/r');
      await kept.next();
      const reset = other.resetWatches();
      const after = await other.watch('/client/r');
      await reset;
      assert.deepEqual(await loop, { done: true, value: undefined });
      // ENOENT from the C daemon, EIO from oxenstored.
      await assert.rejects(transaction.commit());
      await after.next();
      await store.write('/client/r', '1');
      assert.deepEqual(await after.next(), { done: false, value: { path: '/client/r' } });
      assert.deepEqual(await kept.next(), { done: false, value: { path: '/client/r' } });
      await before.close();
      await other.resetWatches();
      await after.close();
    },
  },
];
