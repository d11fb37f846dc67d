/** What the configuration says of storage on the network. */
export interface NetworkSettings {
  /** A ceph.conf; `DEFAULT_CEPH_CONF` if undefined. */
  readonly cephConf?: string | undefined;
  /** Without `client.`; `admin` if undefined. */
  readonly cephUser?: string | undefined;
  /** The name of this initiator; QEMU's own if undefined. */
  readonly iscsiInitiator?: string | undefined;
  /** The folder with a file for each user's CHAP password. */
  readonly iscsiSecrets?: string | undefined;
  /** Seconds for which requests wait for storage that is away; for as long as it takes if undefined. */
  readonly reconnectSeconds?: number | undefined;
}

export const DEFAULT_CEPH_CONF = '/etc/ceph/ceph.conf';
export const DEFAULT_CEPH_USER = 'admin';

export const RECONNECT = 'reconnect-seconds';

/** The number of `reconnect-seconds`; undefined for none. Error: what `refused` makes of the reason. */
export function reconnectSeconds(text: string | undefined, refused: (reason: string) => Error): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,5}$/.test(text)) {
    const form = 'expected a whole number from 1 to 999999, or nothing: it waits for ever';
    throw refused(`${RECONNECT}=${text}; ${form}`);
  }
  return Number(text);
}
