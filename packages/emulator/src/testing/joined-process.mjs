import { joinHost } from '@xenpv/emulator';
import { GrantCopyBatch } from '@xenpv/xen-sys';

// A process that uses a domain's pages and channels as hard as it can, until it is killed.
const [directory, owner, ref, port] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const provider = await joinHost(directory);
const table = provider.openGrantTable();
const batch = new GrantCopyBatch(4);
const local = new ArrayBuffer(4 * 4096);
const address = table.register(local);
process.send('ready');
for (let round = 0; ; round++) {
  const channels = provider.openEventChannels();
  if (round % 2 === 0) channels.bindUnbound(owner);
  else channels.notify(channels.bindInterdomain(owner, port));
  const mapping = table.map(owner, Uint32Array.of(ref, ref), { writable: true });
  for (let copies = 0; copies < 200; copies++) {
    batch.clear();
    for (let i = 0; i < 4; i++) batch.fromGrant(owner, ref, 0, address + i * 4096, 4096);
    if (table.copy(batch) !== 0) throw new Error('the batch was refused');
  }
  table.unmap(mapping);
  channels.close();
}
