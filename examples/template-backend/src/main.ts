import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { nativeProvider } from '@xenpv/xen-sys';
import { type DeviceErrorEvent, deviceName, errorMessage } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { serve } from './serve.js';

subscribe('xenbus:device:error', (message) => {
  const { address, error } = message as DeviceErrorEvent;
  console.error(`${address === undefined ? 'bus' : deviceName(address)}: ${errorMessage(error)}`);
});

/** On the machine's own Xen, until a signal ends it. Guests wait then, and the next process goes on with them. */
async function main(): Promise<void> {
  await using store = await XenstoreClient.connect({ reconnect: true });
  await using server = await serve(nativeProvider(), store);
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
