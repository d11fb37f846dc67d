import { EmulatedHost } from '@xenpv/emulator';

// A host in a process of its own, for ../processes/processes.test.ts; carries out what its parent asks.
const host = await EmulatedHost.create({ directory: process.argv[2], toolstackTimeoutMs: 5000 });
const commands = {
  create: async (config) => (await host.createDomain(config)).domid,
  destroy: (domid) => host.destroyDomain(domid),
  usage: (domid) => host.usage(domid),
  close: () => host.close(),
};
process.on('message', async ({ id, command, argument }) => {
  try {
    const result = await commands[command](argument);
    process.send({ id, result }, () => {
      if (command === 'close') process.disconnect();
    });
  } catch (error) {
    process.send({ id, error: error.message });
  }
});
process.send('ready');
