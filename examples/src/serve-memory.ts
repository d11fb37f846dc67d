/** A disk in memory, served to a guest: the backend, the frontend and the host between them in one process. */
import { Blkfront } from '@xenpv/blkfront';
import { memoryImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import { XenBlockBackend } from '@xenpv/xen-block';
import { XenstoreClient } from '@xenpv/xenstore';

const host = await EmulatedHost.create();
const guest = await host.createDomain({ name: 'guest' });

const store = XenstoreClient.open(await host.provider(0).connectXenstore());
const openImage = async () => memoryImage({ size: 64 * 1024 * 1024 });
const backend = await XenBlockBackend.start({ provider: host.provider(0), store, openImage });
await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: 'memory' });

const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
const disk = await Blkfront.connect({ provider: guest.provider, store: guestStore, vdev: 'xvda' });
await disk.write(4096, Buffer.from('written by a guest'.padEnd(512)));
await disk.flush();
const sector = Buffer.from(await disk.read(4096, 512));
console.log(`${disk.size} bytes; sector 8 says: ${sector.toString().trim()}`);

await host.toolstack.detachDisk(guest.domid, 'xvda');
await disk.close();
await guestStore.close();
await backend.close();
await store.close();
await host.close();
