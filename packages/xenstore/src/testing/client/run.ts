import type { XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '../../client/client.js';
import { type ConformanceTarget, connectGuest } from '../conformance/scene.js';
import type { ClientCase } from './case.js';
import { daemonClientCases } from './daemon.js';
import { nodeClientCases } from './nodes.js';
import { transactionClientCases } from './transactions.js';
import { treeClientCases } from './trees.js';
import { watchClientCases } from './watches.js';

/** All cases; their names are unique. */
export const clientCases: readonly ClientCase[] = [
  ...nodeClientCases,
  ...transactionClientCases,
  ...watchClientCases,
  ...treeClientCases,
  ...daemonClientCases,
];

/** Unlike those of the conformance cases. */
let nextDomid = 30001;

/** Runs a case with connections that are closed afterwards. */
export async function runClientCase(one: ClientCase, target: ConformanceTarget): Promise<void> {
  const clients: XenstoreClient[] = [];
  const domids: number[] = [];
  const keep = (transport: XenstoreTransport) => {
    const client = XenstoreClient.open(transport);
    clients.push(client);
    return client;
  };
  const open = async () => keep(await target.connect());
  const store = await open();
  const openGuest = async () => {
    const domid = nextDomid++;
    domids.push(domid);
    const guest = keep(await connectGuest(target, domid));
    await store.mkdir('/client');
    await store.setPermissions('/client', [{ domid, access: 'n' }]);
    return guest;
  };
  await store.remove('/client');
  try {
    await one.run(store, open, openGuest);
  } finally {
    await store.remove('/client');
    await Promise.all(clients.map((client) => client.close()));
    for (const domid of domids) await target.removeGuest?.(domid);
  }
}
