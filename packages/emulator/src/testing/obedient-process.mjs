import { joinHost } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';

// A process that does as it is told, as domain 0, and says what came of it.
const [directory, owner, ref] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const provider = await joinHost(directory);
const table = provider.openGrantTable();
const map = (writable) => table.map(owner, Uint32Array.of(ref), { writable });
const tasks = {
  map: () => table.unmap(map(true)),
  misuse: () => {
    const mapping = map(false);
    mapping.page(0)[0] = 1;
    table.unmap(mapping);
  },
  xenstore: async () => {
    const client = XenstoreClient.open(await provider.connectXenstore());
    await client.read('/local/domain/0/name').finally(() => client.close());
  },
};
process.on('message', async (task) => {
  try {
    await tasks[task]();
    process.send('done');
  } catch (error) {
    process.send(error.code);
  }
});
process.send('ready');
