import { refusal } from '../refusal.js';
import { RECONNECT, reconnectSeconds } from './settings.js';

/** A logical unit, as `iscsi://[USER@]HOST[:PORT]/IQN/LUN[?reconnect-seconds=N]` names it. */
export interface IscsiTarget {
  readonly host: string;
  readonly port: number;
  readonly iqn: string;
  readonly lun: number;
  /** For CHAP; undefined: nobody is asked who he is. */
  readonly user: string | undefined;
  readonly reconnectSeconds: number | undefined;
}

const FORM = 'expected iscsi://HOST:PORT/IQN/LUN or iscsi://USER@HOST:PORT/IQN/LUN';
/** IANA's. */
const ISCSI_PORT = 3260;
const MOST_LUN = 16_383;

/** Error: ERR_IMAGE. */
export function iscsiTarget(target: string): IscsiTarget {
  const refused = (reason: string) => refusal(target, reason);
  // libiscsi's form is USER%PASSWORD. Whoever reads xenstore would read it.
  if (/^iscsi:[^@]*[:%][^@]*@/.test(target)) {
    throw refusal('iscsi:', 'a password is not taken from a target; put it into a file of the folder iscsi-secrets');
  }
  const url = parsed(target, refused);
  const [iqn = '', lun = '', ...others] = decoded(url.pathname, refused).slice(1).split('/');
  if (url.hostname === '' || iqn === '' || !/^\d+$/.test(lun) || others.length > 0) throw refused(FORM);
  if (Number(lun) > MOST_LUN) throw refused(`LUN ${lun} is more than ${MOST_LUN}`);
  const unknown = [...url.searchParams.keys()].find((key) => key !== RECONNECT);
  if (unknown !== undefined) throw refused(`${unknown} is not known; ${FORM}`);
  return {
    // Of an IPv6 address the brackets are the URL's, and QEMU's too.
    host: url.hostname,
    port: url.port === '' ? ISCSI_PORT : Number(url.port),
    iqn,
    lun: Number(lun),
    user: url.username || undefined,
    reconnectSeconds: reconnectSeconds(url.searchParams.get(RECONNECT) ?? undefined, refused),
  };
}

function parsed(target: string, refused: (reason: string) => Error): URL {
  try {
    return new URL(target);
  } catch {
    throw refused(FORM);
  }
}

/** Names of targets have no slashes (RFC 3722). */
function decoded(path: string, refused: (reason: string) => Error): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw refused(FORM);
  }
}
