import { EmulatedHost } from '@xenpv/emulator';

// A host in a process of its own, until SIGTERM.
const host = await EmulatedHost.create({ directory: process.argv[2], toolstackTimeoutMs: 5000 });
process.once('SIGTERM', () => void host.close().then(() => process.disconnect()));
process.send('ready');
