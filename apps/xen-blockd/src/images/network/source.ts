import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { PinnedFile } from '@xenpv/blockdev';
import { refusal } from '../refusal.js';
import { CephConf, hasKeyOf } from './ceph-conf.js';
import { iscsiTarget } from './iscsi-target.js';
import { rbdTarget } from './rbd-target.js';
import { DEFAULT_CEPH_CONF, DEFAULT_CEPH_USER, type NetworkSettings } from './settings.js';

/** QEMU's drivers of storage on the network, in the place of a format. */
export type NetworkDriver = 'rbd' | 'iscsi';

/** An image that is not here: what a helper needs to reach it. */
export interface NetworkSource {
  readonly driver: NetworkDriver;
  /** Of the image, whatever its target says besides. */
  readonly identity: string;
  /** QEMU's block node. */
  readonly node: object;
  /** QEMU's objects that the node names. */
  readonly objects: readonly object[];
  /** Files that the helper reads, and may not write. */
  readonly files: readonly PinnedFile[];
  readonly environment: Readonly<Record<string, string>>;
  /** What an operator may look at when it does not answer. */
  readonly advice: string;
}

/** librados gives up before the helper is given up, and says what it waited for. */
const CONNECT_SECONDS = 20;
const SECRET = 'chap';

/** The driver for a target, or undefined: it is no image of storage on the network that a helper speaks with. */
export function networkDriver(target: string): NetworkDriver | undefined {
  if (target.startsWith('rbd:')) return 'rbd';
  return target.startsWith('iscsi:') ? 'iscsi' : undefined;
}

export function isNetworkDriver(format: string): format is NetworkDriver {
  return format === 'rbd' || format === 'iscsi';
}

export interface SourceOptions {
  readonly readOnly: boolean;
  readonly settings?: NetworkSettings | undefined;
  /** The helper's name of the file that it gets as number `index`. */
  readonly fileName: (index: number) => string;
}

/** Finds what a helper needs, and holds its files. The caller closes them. Error: ERR_IMAGE. */
export function openNetworkSource(
  target: string,
  driver: NetworkDriver,
  options: SourceOptions,
): Promise<NetworkSource> {
  return driver === 'rbd' ? openRbd(target, options) : openIscsi(target, options);
}

/** The identity of an image, without a look at anything. Error: ERR_IMAGE. */
export function networkIdentity(target: string, driver: NetworkDriver, settings: NetworkSettings = {}): string {
  if (driver === 'iscsi') {
    const { host, port, iqn, lun } = iscsiTarget(target);
    return `iscsi://${host}:${port}/${iqn}/${lun}`;
  }
  const { pool, namespace, image, snapshot, conf = settings.cephConf ?? DEFAULT_CEPH_CONF } = rbdTarget(target);
  return `rbd:${JSON.stringify([conf, pool, namespace ?? '', image, snapshot ?? ''])}`;
}

async function openRbd(target: string, { readOnly, settings = {}, fileName }: SourceOptions): Promise<NetworkSource> {
  const { pool, namespace, image, snapshot, ...given } = rbdTarget(target);
  const conf = given.conf ?? settings.cephConf ?? DEFAULT_CEPH_CONF;
  const user = given.user ?? settings.cephUser ?? DEFAULT_CEPH_USER;
  if (snapshot !== undefined && !readOnly) throw refusal(target, `snapshot ${snapshot} is only read: give it mode r`);
  const text = readable(
    target,
    conf,
    `the configuration of the cluster`,
    'name another ceph-conf, or install that one',
  );
  const keyring = findKeyring(target, new CephConf(text, user), { conf, user });
  const files = await pinAll(keyring === undefined ? [conf] : [conf, keyring]);
  const seconds = given.reconnectSeconds ?? settings.reconnectSeconds;
  return {
    driver: 'rbd',
    identity: networkIdentity(target, 'rbd', settings),
    node: {
      driver: 'rbd',
      conf: fileName(0),
      pool,
      ...(namespace && { namespace }),
      image,
      ...(snapshot && { snapshot }),
      user,
    },
    objects: [],
    files,
    environment: { CEPH_ARGS: cephArguments({ keyring: keyring && fileName(1), seconds }) },
    advice: `ask the cluster: ceph -c ${conf} --id ${user} health`,
  };
}

/** Options that come before those of a ceph.conf. Nothing is where that one has logs and sockets. */
function cephArguments({ keyring, seconds }: { keyring: string | undefined; seconds: number | undefined }): string {
  return [
    ...(keyring === undefined ? [] : [`--keyring=${keyring}`]),
    '--log-file=',
    '--admin-socket=',
    `--client-mount-timeout=${CONNECT_SECONDS}`,
    ...(seconds === undefined ? [] : [`--rados-osd-op-timeout=${seconds}`, `--rados-mon-op-timeout=${seconds}`]),
  ].join(' ');
}

function findKeyring(target: string, conf: CephConf, names: { conf: string; user: string }): string | undefined {
  if (!conf.needsKeyring) return undefined;
  const { user } = names;
  const paths = conf.keyrings.filter(isAbsolute);
  for (const path of paths) {
    const text = tryRead(target, path, `the keyring of client.${user}`);
    if (text === undefined) continue;
    if (hasKeyOf(text, user)) return path;
    throw refusal(target, `${path} has no key of client.${user}; ${keyAdvice(user, path)}`);
  }
  const [place = `/etc/ceph/ceph.client.${user}.keyring`] = paths;
  throw refusal(target, `there is no keyring of client.${user} (${paths.join(', ')}); ${keyAdvice(user, place)}`);
}

function keyAdvice(user: string, path: string): string {
  return `ceph auth get client.${user} -o ${path}, or name another ceph-user`;
}

async function openIscsi(target: string, { settings = {}, fileName }: SourceOptions): Promise<NetworkSource> {
  const { host, port, iqn, lun, user } = iscsiTarget(target);
  const secret = user === undefined ? undefined : findSecret(target, user, settings.iscsiSecrets);
  const { iscsiInitiator } = settings;
  return {
    driver: 'iscsi',
    identity: networkIdentity(target, 'iscsi', settings),
    node: {
      ...{ driver: 'iscsi', transport: 'tcp', portal: `${host}:${port}`, target: iqn, lun },
      ...(user !== undefined && { user, 'password-secret': SECRET }),
      ...(iscsiInitiator !== undefined && { 'initiator-name': iscsiInitiator }),
    },
    objects: secret === undefined ? [] : [{ 'qom-type': 'secret', id: SECRET, file: fileName(0) }],
    files: await pinAll(secret === undefined ? [] : [secret]),
    environment: {},
    advice: `is the server there? iscsi-ls iscsi://${host}:${port} (Debian: libiscsi-bin) asks it`,
  };
}

function findSecret(target: string, user: string, folder: string | undefined): string {
  if (folder === undefined) throw refusal(target, `user ${user} has a password; name its folder in iscsi-secrets`);
  if (!/^[^/.][^/]*$/.test(user)) throw refusal(target, `user ${user} cannot be the name of a file in ${folder}`);
  const path = join(folder, user);
  const text = readable(target, path, `the password of ${user}`, `write it: printf %s PASSWORD > ${path}`);
  if (/[\r\n]/.test(text) || text === '') {
    throw refusal(
      target,
      `${path} is empty, or has an end of line, which is no part of a password: printf %s PASSWORD > ${path}`,
    );
  }
  return path;
}

function readable(target: string, path: string, what: string, advice: string): string {
  const text = tryRead(target, path, what);
  if (text === undefined) throw refusal(target, `${path}, ${what}, is not there; ${advice}`);
  return text;
}

/** Undefined for what is not there. */
function tryRead(target: string, path: string, what: string): string | undefined {
  let fd: number | undefined;
  try {
    // A pipe is not waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return readFileSync(fd, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw refusal(target, `${path}, ${what}, cannot be read (${code}); chmod it for the user of the daemon`, cause);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

async function pinAll(paths: readonly string[]): Promise<PinnedFile[]> {
  const files: PinnedFile[] = [];
  try {
    for (const path of paths) files.push(await PinnedFile.open(path));
    return files;
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw error;
  }
}
