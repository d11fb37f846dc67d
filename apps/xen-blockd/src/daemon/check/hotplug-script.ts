import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../package-root.js';
import { type Finding, good, missing, note } from './finding.js';

const NAME = 'hotplug script';
const INSTALLED = 'etc/xen/scripts/block-xen-blockd';
const SHIPPED = fileURLToPath(new URL('hotplug/block-xen-blockd', packageRoot));

/** The script that xl runs for disks of the types vbd and vbd3, in dom0. `root`: where /etc is. */
export function checkHotplugScript(types: readonly string[], root = '/', shipped = SHIPPED): Finding {
  if (!types.includes('vbd') && !types.includes('vbd3')) return good(NAME, 'not needed for the types that are served');
  const path = join(root, INSTALLED);
  const shippedText = read(shipped);
  const remedy = shippedText === undefined ? 'install the package anew' : `install -m 755 ${shipped} ${path}`;
  const text = read(path);
  if (text === undefined) return missing(NAME, `${path} is not there: xl attaches no disk of type vbd or vbd3`, remedy);
  try {
    accessSync(path, constants.X_OK);
  } catch {
    return missing(NAME, `${path} may not be run`, `chmod 755 ${path}`);
  }
  // Where a package has put it there, there is no other copy.
  if (shippedText === undefined || shippedText === text) return good(NAME, `${path} is there, and current`);
  return note(NAME, `${path} is of another version than this xen-blockd`, remedy);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
