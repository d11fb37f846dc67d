/**
 * A new kind of PV backend, and no block device: its frontend puts a line into a page that it grants and sends an event;
 * the backend makes the line upper case and sends one back.
 */
import { EventEmitter, once } from 'node:events';
import { EmulatedHost } from '@xenpv/emulator';
import { attachDevice, FrontendDevice, type PvConnection, type PvDevice, removeDevice, servePv } from '@xenpv/xenbus';
import { treeSchema, XenstoreClient } from '@xenpv/xenstore';

const KEYS = treeSchema({ 'page-ref': { type: 'gref' }, 'event-channel': { type: 'port' } });

/** The page: length of the line in bytes (u32), then the line. */
const LINE = 4;
const textOf = (page: Buffer, length: number) => page.toString('utf8', LINE, LINE + length);

class ShoutDevice implements PvDevice<typeof KEYS> {
  connect({ keys, link }: PvConnection<typeof KEYS>) {
    const page = link.map(keys['page-ref'], { writable: true });
    const channel = link.bind(keys['event-channel'], () => {
      // The page is the guest's: its length is read once, and checked before it is used. What is thrown ends the device.
      const length = page.readUInt32LE(0);
      if (length === 0) return;
      if (length > page.length - LINE) throw new Error(`a line of ${length} bytes`);
      page.write(textOf(page, length).toUpperCase(), LINE);
      channel.notify();
    });
  }
}

const host = await EmulatedHost.create();
const store = XenstoreClient.open(await host.provider(0).connectXenstore());
const device = () => new ShoutDevice();
const server = await servePv({ provider: host.provider(0), store, type: 'vshout', keys: KEYS, device });

const guest = await host.createDomain({ name: 'guest' });
const attached = await attachDevice(store, guest.domid, { type: 'vshout', devid: 0 });
const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
const events = new EventEmitter();
const frontend = await FrontendDevice.connect({
  ...{ provider: guest.provider, store: guestStore, type: 'vshout', devid: 0 },
  publish: ({ link }) => {
    const { refs, bytes: page } = link.grant();
    const channel = link.bind(() => void events.emit('answer'));
    return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared: { page, channel } };
  },
});
const { page, channel } = frontend.shared;
const answered = once(events, 'answer');
page.writeUInt32LE(page.write('a whole backend, and no block device', LINE), 0);
channel.notify();
await answered;
console.log(textOf(page, page.readUInt32LE(0)));

await frontend.close();
await removeDevice(store, attached);
await server.close();
await Promise.all([guestStore.close(), store.close()]);
await host.close();
