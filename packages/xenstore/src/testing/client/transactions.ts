import assert from 'node:assert/strict';
import type { XenstoreClient } from '../../client/client.js';
import type { ClientCase } from './case.js';

/** Reads the number in a node, adds one, writes it: with others at it, only a transaction gets that right. */
function increment(store: XenstoreClient, path: string): Promise<void> {
  return store.transaction(
    async (tx) => {
      const before = Number((await tx.tryRead(path)) ?? 0);
      await tx.write(path, before + 1);
    },
    { retries: 1000 },
  );
}

/** Transactions, with others at the same nodes. */
export const transactionClientCases: readonly ClientCase[] = [
  {
    name: 'commits and aborts transactions',
    run: async (store) => {
      await store.transaction((tx) => tx.write('/client/x', 1));
      await assert.rejects(
        store.transaction(async (tx) => {
          await tx.write('/client/x', 2);
          throw new Error('no');
        }),
        { message: 'no' },
      );
      assert.equal(await store.read('/client/x'), '1');
      const byHand = await store.begin();
      await byHand.write('/client/x', 3);
      await byHand.abort();
      await byHand.abort();
      await assert.rejects(byHand.commit(), { code: 'ERR_INVALID_ARGUMENT' });
      assert.equal(await store.read('/client/x'), '1');
    },
  },
  {
    name: 'repeats transactions that lost a race',
    run: async (store, open) => {
      const clients = [store, await open(), await open()];
      await Promise.all(clients.flatMap((client) => Array.from({ length: 6 }, () => increment(client, '/client/n'))));
      assert.equal(await store.read('/client/n'), '18');
    },
  },
  {
    name: 'has more transactions to do than a domain may have open',
    guests: true,
    run: async (_, __, openGuest) => {
      const guest = await openGuest();
      const paths = Array.from({ length: 40 }, (_, i) => `/client/${i}`);
      await Promise.all(paths.map((path) => guest.write(path, 0)));
      await Promise.all(paths.map((path) => increment(guest, path)));
      const values = await Promise.all(paths.map((path) => guest.read(path)));
      assert.deepEqual([...new Set(values)], ['1']);
    },
  },
  {
    name: 'gives up a transaction that loses every race',
    run: async (store, open) => {
      const rival = await open();
      let runs = 0;
      const losing = store.transaction(
        async (tx) => {
          runs++;
          await tx.read('/client/x');
          await rival.write('/client/x', runs);
          await tx.write('/client/x', 'mine');
        },
        { retries: 2 },
      );
      await assert.rejects(
        store.write('/client/x', 0).then(() => losing),
        { code: 'EAGAIN' },
      );
      assert.equal(runs, 3);
    },
  },
];
