import { errnoError } from '../errors.js';
import { sendDatagram } from './datagram.js';

/**
 * Tells systemd about this process, as sd_notify(3) does: `READY=1`, `STATUS=...`, `WATCHDOG=1`, several lines at once.
 * Returns false when systemd did not ask (NOTIFY_SOCKET is not set).
 * Errors: ERR_NO_ADDON, or the errno of sending.
 */
export function sdNotify(state: string): boolean {
  const path = process.env.NOTIFY_SOCKET;
  if (!path) return false;
  const result = sendDatagram(path, Buffer.from(state), { wait: true });
  if (result < 0) throw errnoError(result, 'sdNotify', path);
  return true;
}
