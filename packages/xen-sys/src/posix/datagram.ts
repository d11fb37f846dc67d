import { loadAddon } from '../addon/addon.js';

/**
 * Sends one datagram to a Unix socket; a path that begins with `@` is in the abstract namespace, as systemd spells it.
 * Returns 0, or a negative errno: -ENOENT and -ECONNREFUSED, nobody has the socket; -EMSGSIZE, the datagram is too
 * long. A receiver that has no room is -EAGAIN at once, or is waited for if `wait` is true. Error: ERR_NO_ADDON.
 */
export function sendDatagram(
  path: string,
  data: Uint8Array,
  { wait = false }: { wait?: boolean | undefined } = {},
): number {
  // The name of a socket in the abstract namespace begins with a zero byte.
  const address = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  return loadAddon().sendDatagram(address, data, wait);
}
