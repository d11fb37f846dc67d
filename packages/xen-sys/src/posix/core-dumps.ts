import { loadAddon } from '../addon/addon.js';
import { errnoError } from '../errors.js';

/**
 * From now on this process leaves no core dump, whatever the kernel is told to do with them, and only root may look into
 * its memory. Programs that it runs may leave none either. Errors: ERR_NO_ADDON, or an errno.
 */
export function forbidCoreDumps(): void {
  const result = loadAddon().forbidCoreDumps();
  if (result < 0) throw errnoError(result, 'forbidCoreDumps', '');
}
