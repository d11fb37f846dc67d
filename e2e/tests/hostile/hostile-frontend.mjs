/**
 * In a domain whose kernel leaves the disks alone: `node hostile-frontend.mjs FOLDER VDEV READ_ONLY_VDEV SEED` takes them over.
 * Whoever writes FOLDER/ask, `{ name, seconds, first, least }`, has it misbehave so, and then finds what came of it in FOLDER/answer. The
 * names are in FOLDER/names.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nativeProvider } from '/lab/repo/packages/xen-sys/dist/index.js';
import { XenstoreClient } from '/lab/repo/packages/xenstore/dist/index.js';
import { Random } from '../shared/random.mjs';
import { misbehaveFor } from './hostile-guest.mjs';
import { MISBEHAVIOURS } from './misbehaviours.mjs';

const LOOK_MS = 50;

const [folder, vdev, readOnlyVdev, seed] = process.argv.slice(2);
// Of connections that it broke itself.
process.on('unhandledRejection', () => {});
const ask = join(folder, 'ask');
try {
  const provider = nativeProvider();
  const store = XenstoreClient.open(await provider.connectXenstore());
  const parts = { provider, store, vdev, readOnlyVdev, random: new Random(Number(seed)) };
  tell('names', Object.keys(MISBEHAVIOURS));
  for (;;) {
    if (!existsSync(ask)) {
      await sleep(LOOK_MS);
      continue;
    }
    const asked = JSON.parse(readFileSync(ask, 'utf8'));
    rmSync(ask);
    tell('answer', await misbehaveFor(asked, parts));
  }
} catch (error) {
  console.error(error.stack, error.cause?.stack);
  process.exit(1);
}

/** Whole, or not there. */
function tell(file, what) {
  writeFileSync(join(folder, 'part'), JSON.stringify(what));
  renameSync(join(folder, 'part'), join(folder, file));
}
