import { HelperDirectory } from '../helper-directory.js';
import { DEFAULT_TIMES } from '../times.js';
import { endHelpers } from './adopt.js';

/** Why something of an earlier process could not be ended or removed. */
export interface OrphanFailure {
  readonly path: string;
  readonly error: Error;
}

/**
 * Ends the helpers that an earlier process has left in folders below `base` for devices that are not wanted, and removes
 * those folders. A helper that is asked to end writes back what it holds. What this process uses is left alone.
 */
export async function endOrphans(
  base: string,
  isWanted: (device: string) => Promise<boolean> | boolean,
  stopMs: number = DEFAULT_TIMES.stopMs,
): Promise<OrphanFailure[]> {
  const failures: OrphanFailure[] = [];
  await Promise.all(
    HelperDirectory.devicesIn(base).map(async ({ name, device }) => {
      if (await isWanted(device)) return;
      const directory = HelperDirectory.tryNamed(base, name);
      if (!directory) return;
      try {
        await endHelpers(directory, directory.path, stopMs);
        directory.remove('with all');
      } catch (error) {
        failures.push({ path: directory.path, error: error as Error });
        directory.leave();
      }
    }),
  );
  return failures;
}
