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
];
