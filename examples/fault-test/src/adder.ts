import type { XenProvider } from '@xenpv/xen-sys';
import { type PvConnection, type PvDevice, servePv } from '@xenpv/xenbus';
import { treeSchema, type XenstoreClient } from '@xenpv/xenstore';

export const TYPE = 'vadd';
const KEYS = treeSchema({ 'page-ref': { type: 'gref' }, 'event-channel': { type: 'port' } });

/** The shared page: where each u32 is, in bytes. `asked` goes up by one with each number. */
export const Page = { asked: 0, number: 4, answered: 8, total: 12 } as const;

/** Adds up the numbers that a guest gives it. The total is in the page, so that the next process can go on with it. */
class Adder implements PvDevice<typeof KEYS> {
  connect({ keys, link }: PvConnection<typeof KEYS>) {
    const page = link.map(keys['page-ref'], { writable: true });
    const channel = link.bind(keys['event-channel'], () => {
      const asked = page.readUInt32LE(Page.asked);
      if (asked === page.readUInt32LE(Page.answered)) return;
      const total = page.readUInt32LE(Page.total) + page.readUInt32LE(Page.number);
      page.writeUInt32LE(total >>> 0, Page.total);
      page.writeUInt32LE(asked, Page.answered);
      channel.notify();
    });
  }
}

export const serve = (provider: XenProvider, store: XenstoreClient) =>
  servePv({ provider, store, type: TYPE, keys: KEYS, device: () => new Adder() });
