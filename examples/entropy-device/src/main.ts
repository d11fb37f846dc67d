import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { joinHost } from '@xenpv/emulator';
import { nativeProvider } from '@xenpv/xen-sys';
import { type DeviceErrorEvent, deviceName, errorMessage } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { serve } from './serve.js';

subscribe('xenbus:device:error', (message) => {
  const { address, error } = message as DeviceErrorEvent;
  console.error(`${address === undefined ? 'bus' : deviceName(address)}: ${errorMessage(error)}`);
});

/** On the machine's own Xen, or with `--emulator DIR` on the host in that folder, until a signal ends it. */
async function main(): Promise<void> {
  const { emulator } = parseArgs({ options: { emulator: { type: 'string' } } }).values;
  const provider = emulator === undefined ? nativeProvider() : await joinHost(emulator);
  await using store = await XenstoreClient.connect({ provider, reconnect: true });
  await using server = await serve(provider, store);
  const [ended] = await Promise.race([
    server.closed.then((error) => [error]),
    once(process, 'SIGTERM'),
    once(process, 'SIGINT'),
  ]);
  if (ended instanceof Error) throw ended;
}

try {
  await main();
  process.exit();
} catch (error) {
  console.error(errorMessage(error));
  process.exit(1);
}
