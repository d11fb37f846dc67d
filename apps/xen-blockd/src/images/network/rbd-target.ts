import { refusal } from '../refusal.js';
import { RECONNECT, reconnectSeconds } from './settings.js';

/** An image of a Ceph cluster, as `rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:OPTION=VALUE]…` names it. */
export interface RbdTarget {
  readonly pool: string;
  readonly namespace: string | undefined;
  readonly image: string;
  readonly snapshot: string | undefined;
  /** Without `client.`; undefined: the configuration's. */
  readonly user: string | undefined;
  /** A ceph.conf; undefined: the configuration's. */
  readonly conf: string | undefined;
  readonly reconnectSeconds: number | undefined;
}

const FORM = `expected rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE, with @SNAPSHOT, :id=USER, :conf=PATH or :${RECONNECT}=N behind it`;
const OPTIONS: readonly string[] = ['id', 'conf', RECONNECT];
/** Error: ERR_IMAGE. */
export function rbdTarget(target: string): RbdTarget {
  const refused = (reason: string) => refusal(target, reason);
  const [name = '', ...words] = split(target.slice('rbd:'.length), ':');
  const parts = split(name, '/');
  if (parts.length < 2 || parts.length > 3) throw refused(FORM);
  const [image = '', snapshot, ...others] = split(parts.at(-1) ?? '', '@');
  const names = [...parts.slice(0, -1), image, ...(snapshot === undefined ? [] : [snapshot])].map(unescaped);
  if (others.length > 0 || names.some((each) => each === '')) throw refused(FORM);
  const options = optionsOf(words, refused);
  return {
    pool: names[0] ?? '',
    namespace: parts.length === 3 ? names[1] : undefined,
    image: unescaped(image),
    snapshot: snapshot === undefined ? undefined : unescaped(snapshot),
    user: options.get('id'),
    conf: options.get('conf'),
    reconnectSeconds: reconnectSeconds(options.get(RECONNECT), refused),
  };
}

function optionsOf(words: readonly string[], refused: (reason: string) => Error): Map<string, string> {
  const options = new Map<string, string>();
  for (const word of words) {
    const [, key = word, value = ''] = /^([^=]*)=(.*)$/s.exec(word) ?? [];
    if (!OPTIONS.includes(key)) {
      throw refused(
        `option ${key} is not taken from a target; known are ${OPTIONS.join(', ')}; others go into ceph.conf`,
      );
    }
    if (value === '' || options.has(key)) throw refused(`option ${key} has no value, or is there twice; ${FORM}`);
    options.set(key, unescaped(value));
  }
  const conf = options.get('conf');
  if (conf !== undefined && !conf.startsWith('/')) throw refused(`conf=${conf} is no absolute path`);
  const user = options.get('id');
  if (user?.startsWith('client.')) throw refused(`id=${user}: write it without client.`);
  // The keyring's path may have it: a slash would choose the folder.
  if (user !== undefined && /[\s/]/.test(user)) throw refused('id is a name without spaces and slashes');
  return options;
}

/** A backslash keeps the next character from being a separator. */
function split(text: string, separator: string): string[] {
  const words = [''];
  for (const [unit] of text.matchAll(/\\.|./gs)) {
    if (unit === separator) words.push('');
    else words[words.length - 1] += unit;
  }
  return words;
}

function unescaped(text: string): string {
  return text.replaceAll(/\\(.)/gs, '$1');
}
