import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where what takes long to make is kept, outside of the tree: the folder for one kind of it, which may not be there yet. */
export function cacheFolder(kind) {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), `xen-blockd-${kind}`);
}
