import type { XenstoreClient } from '@xenpv/xenstore';
import { type Finding, good, note } from './finding.js';

const NAME = 'xenstored quotas';
/** The defaults of xenstored: nodes that a domain may own, and what a disk takes of them. */
const NODES = 1000;
const NODES_OF_DISK = 30;
/** What may be used before somebody should know. */
const SHARE = 0.8;

/** xenstored limits the nodes of every domain but those that it trusts, as dom0. */
export async function checkQuotas(store: XenstoreClient, domid: number, types: readonly string[]): Promise<Finding> {
  if (domid === 0) return good(NAME, 'dom0 has none');
  const disks = await countDisks(store, domid, types);
  const text = `${disks} disks take about ${disks * NODES_OF_DISK} nodes; by default a driver domain may have ${NODES}`;
  if (disks * NODES_OF_DISK < SHARE * NODES) return good(NAME, text);
  return note(
    NAME,
    `${text}: more disks may be refused, with EQUOTA in the log`,
    'in dom0, start xenstored with --quota nodes=10000 --quota watches=1000 (oxenstored: quota-maxentity)',
  );
}

async function countDisks(store: XenstoreClient, domid: number, types: readonly string[]): Promise<number> {
  const counts = await Promise.all(
    types.map(async (type) => {
      const backends = `/local/domain/${domid}/backend/${type}`;
      const guests = (await store.tryDirectory(backends)) ?? [];
      const disks = await Promise.all(guests.map((guest) => store.tryDirectory(`${backends}/${guest}`)));
      return disks.reduce((sum, names) => sum + (names?.length ?? 0), 0);
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}
