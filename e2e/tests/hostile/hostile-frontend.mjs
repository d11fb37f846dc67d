/**
 * In a domain whose kernel leaves the disk alone: `node hostile-frontend.mjs VDEV SECONDS SEED` takes it over and misbehaves.
 * Prints as JSON how often it did what.
 */
import { nativeProvider } from '/lab/repo/packages/xen-sys/dist/index.js';
import { XenstoreClient } from '/lab/repo/packages/xenstore/dist/index.js';
import { misbehaveFor } from './hostile-guest.mjs';

const [vdev, seconds, seed] = process.argv.slice(2);
// Of connections that it broke itself.
process.on('unhandledRejection', () => {});
const provider = nativeProvider();
try {
  const store = XenstoreClient.open(await provider.connectXenstore());
  console.log(JSON.stringify(await misbehaveFor(Number(seconds), { provider, store, vdev, seed: Number(seed) })));
  process.exit(0);
} catch (error) {
  console.log(error.stack, error.cause?.stack);
  process.exit(1);
}
