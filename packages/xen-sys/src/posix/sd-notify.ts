import { loadAddon } from '../addon/addon.js';
import { errnoError } from '../errors.js';

/**
 * Tells systemd about this process, as sd_notify(3) does: `READY=1`, `STATUS=...`, `WATCHDOG=1`, several lines at once.
 * Returns false when systemd did not ask (NOTIFY_SOCKET is not set).
 * Errors: ERR_NO_ADDON, or the errno of sending.
 */
export function sdNotify(state: string): boolean {
  const path = process.env.NOTIFY_SOCKET;
  if (!path) return false;
  // systemd's spelling of a socket in the abstract namespace, whose name begins with a zero byte.
  const address = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  const result = loadAddon().sendDatagram(address, Buffer.from(state));
  if (result < 0) throw errnoError(result, 'sdNotify', path);
  return true;
}
