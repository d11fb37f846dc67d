import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { MAX_RING_PAGE_ORDER } from '@xenpv/blkif';
import { ON_ERROR, parseRateLimits, RATE_LIMITS_FORM } from '@xenpv/xen-block';
import { parse as parseToml, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { BlockdError, errorCode } from '../errors.js';
import {
  LISTEN_ADDRESS_FORM,
  LOOPBACK_ADDRESS_FORM,
  parseListenAddress,
  parseLoopbackAddress,
} from '../listen-address.js';
import { type ConfigProblem, describeValue, formatProblem, nearest, withoutControls } from './config/problem.js';
import { locateKeys, type Position, positionOf } from './config/source.js';

export type { ConfigProblem };
export { formatProblem };

/** Where the configuration is looked for when none is named. */
export const DEFAULT_CONFIG_PATH = '/etc/xen-blockd.toml';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The backend types that a toolstack writes for disks: `backend/<type>/<domid>/<devid>`. */
export const SERVED_TYPES = ['qdisk', 'vbd3', 'vbd'] as const;
export type ServedType = (typeof SERVED_TYPES)[number];

/** Ways of the data between guests and storage, see XenBlockBackendOptions. */
export const DATA_PATHS = ['copy', 'map', 'persistent'] as const;
/** Storage engines, see FileImageOptions. */
export const ENGINES = ['auto', 'io_uring', 'threads', 'sync'] as const;

/** Values of keys that neither the file nor the command line sets; the backend has the other defaults. */
export const DEFAULTS = {
  types: ['qdisk'],
  'log-level': 'info',
  'control-socket': '/run/xen-blockd/control',
  'nbd-directory': '/run/xen-blockd/nbd',
  'journal-directory': '/run/xen-blockd/journal',
  'helper-directory': '/run/xen-blockd/helpers',
  engine: 'auto',
  direct: 'auto',
  'on-error': 'report',
  'stall-seconds': 10,
  'growth-seconds': 30,
  'stop-seconds': 5,
  'unflushed-mebibytes': 16,
  'backing-files': true,
  'helper-user': 'xen-blockd-helper',
  'ceph-conf': '/etc/ceph/ceph.conf',
  'ceph-user': 'admin',
} as const;

/** Whole numbers that are allowed, from the first to the second. */
export type Range = readonly [least: number, most: number];

export const RANGES = {
  threads: [0, 64],
  /** With `transfer = "persistent"`: pages of each ring that stay mapped. */
  'persistent-pages': [1, 1 << 20],
  'poll-microseconds': [0, 10_000],
  /** What a guest may have at most, for guests that connect from now on: rings of a disk. */
  'max-queues': [1, 256],
  /** Likewise: the pages of a ring are two to this power. */
  'max-ring-page-order': [0, MAX_RING_PAGE_ORDER],
  /** Likewise: pages of a request; 0 is no indirect requests. */
  'max-indirect-segments': [0, 4096],
  'stall-seconds': [1, 86_400],
  'growth-seconds': [0, 86_400],
  // The unit's TimeoutStopSec is 30.
  'stop-seconds': [1, 25],
  'reconnect-seconds': [1, 86_400],
  'unflushed-mebibytes': [1, 1024],
} as const satisfies Record<string, Range>;

const whole = ([least, most]: Range) =>
  v.pipe(
    v.number(),
    v.check((n) => Number.isInteger(n) && n >= least && n <= most, `expected a whole number from ${least} to ${most}`),
  );
const path = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'));
const pathOrNone = v.union([path, v.literal(false)]);
const onError = v.picklist(ON_ERROR);
const limits = v.pipe(
  v.string(),
  v.check((text) => parseRateLimits(text) !== undefined, `expected ${RATE_LIMITS_FORM}`),
);
const types = v.pipe(v.array(v.picklist(SERVED_TYPES)), v.minLength(1, 'expected at least one type'));

const schema = v.strictObject({
  /** Backend types to serve: qdisk in a storage driver domain or for way D; vbd3 or vbd in dom0. */
  types: v.optional(types, [...DEFAULTS.types]),
  /** What is logged: this and what is graver. */
  'log-level': v.optional(v.picklist(LOG_LEVELS), DEFAULTS['log-level']),
  /** Unix socket on which `xen-blockd list` and `stats` ask; false for none. */
  'control-socket': v.optional(pathOrNone, DEFAULTS['control-socket']),
  /** Where Prometheus asks: a Unix socket's path or HOST:PORT. */
  metrics: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => parseListenAddress(text) !== undefined, `expected ${LISTEN_ADDRESS_FORM}`),
    ),
  ),
  /** Where the page for people is: a Unix socket's path, or HOST:PORT that only this machine reaches. */
  page: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => parseLoopbackAddress(text) !== undefined, `expected ${LOOPBACK_ADDRESS_FORM}`),
    ),
  ),
  /** Where disks of type vbd3 are exported over NBD for HVM guests, where the hotplug script looks; false: nowhere. */
  'nbd-directory': v.optional(pathOrNone, DEFAULTS['nbd-directory']),
  /** Where requests in flight are noted, for the process that follows a killed one; false: nowhere. */
  'journal-directory': v.optional(pathOrNone, DEFAULTS['journal-directory']),
  /** Where the storage helper of each image that is not raw has its socket, in a folder that only root can look into. */
  'helper-directory': v.optional(path, DEFAULTS['helper-directory']),
  /** Threads that serve rings besides the main one; by default one per processor but one. */
  threads: v.optional(whole(RANGES.threads), Math.min(availableParallelism() - 1, RANGES.threads[1])),
  /** How data gets between guests and storage: by grant copy, by mapping for each request, or in pages that stay mapped. */
  transfer: v.optional(v.picklist(DATA_PATHS)),
  'persistent-pages': v.optional(whole(RANGES['persistent-pages'])),
  /** Longest time to look for more requests before sleeping; processor time for latency. */
  'poll-microseconds': v.optional(whole(RANGES['poll-microseconds'])),
  /** What guests see of storage with larger sectors: 512, or `image` for its own. */
  'sector-size': v.optional(v.picklist([512, 'image'])),
  'max-queues': v.optional(whole(RANGES['max-queues'])),
  'max-ring-page-order': v.optional(whole(RANGES['max-ring-page-order'])),
  'max-indirect-segments': v.optional(whole(RANGES['max-indirect-segments'])),
  /** Storage engine of files and block devices. */
  engine: v.optional(v.picklist(ENGINES), DEFAULTS.engine),
  /** Past the page cache; `auto` where the storage's alignment allows it. */
  direct: v.optional(v.union([v.literal('auto'), v.boolean()]), DEFAULTS.direct),
  /** What is done when the storage fails a request: see operations.md. */
  'on-error': v.optional(onError, DEFAULTS['on-error']),
  /** `on-error` of single disks, by the image's path or the device's name; the first that fits counts. */
  'on-error-for': v.optional(v.record(v.string(), onError), {}),
  /** What each disk may do in a second; `limits` in its backend directory comes first. */
  'disk-limits': v.optional(limits),
  /** `disk-limits` of single disks, as `on-error-for`. */
  'disk-limits-for': v.optional(v.record(v.string(), limits), {}),
  /** What all disks of a guest may do together. */
  'guest-limits': v.optional(limits),
  /** The age of a request at which storage that hangs is told of. */
  'stall-seconds': v.optional(whole(RANGES['stall-seconds']), DEFAULTS['stall-seconds']),
  /** Between looks whether files and block devices have grown; 0: only refresh looks. */
  'growth-seconds': v.optional(whole(RANGES['growth-seconds']), DEFAULTS['growth-seconds']),
  /** How long a stop waits for requests in flight, before it leaves them to the next process. */
  'stop-seconds': v.optional(whole(RANGES['stop-seconds']), DEFAULTS['stop-seconds']),
  /** For so long requests wait for an NBD or iSCSI server, or a storage helper, that went away; without it for as long as it takes. */
  'reconnect-seconds': v.optional(whole(RANGES['reconnect-seconds'])),
  /** Of each image behind an NBD server or helper: memory for writes that no flush has covered. They are sent again if it dies. */
  'unflushed-mebibytes': v.optional(whole(RANGES['unflushed-mebibytes']), DEFAULTS['unflushed-mebibytes']),
  /** Images must be in or below one of these directories; without it any path that the toolstack names is opened. */
  'image-directories': v.optional(v.array(path)),
  /** Hosts of NBD servers that disks may be on; without it any, or none where image-directories is set. */
  'nbd-hosts': v.optional(v.array(v.pipe(v.string(), v.regex(/^[A-Za-z0-9._:-]+$/)))),
  /** The folder with ca-cert.pem, and client-cert.pem and client-key.pem if servers ask for them, for `nbds:` targets. */
  'nbd-tls': v.optional(path),
  /** The ceph.conf of the cluster that `rbd:` targets are in; it and the keyring that it names are all that a helper sees. */
  'ceph-conf': v.optional(path, DEFAULTS['ceph-conf']),
  /** Whom the cluster knows this machine as, without `client.`. */
  'ceph-user': v.optional(v.pipe(v.string(), v.regex(/^(?!client\.)[^\s/,]+$/)), DEFAULTS['ceph-user']),
  /** Pools that `rbd:` targets may be in; without it any, or none where image-directories is set. */
  'rbd-pools': v.optional(v.array(v.pipe(v.string(), v.minLength(1)))),
  /** Hosts of iSCSI servers that disks may be on; without it any, or none where image-directories is set. */
  'iscsi-hosts': v.optional(v.array(v.pipe(v.string(), v.regex(/^[A-Za-z0-9._:-]+$/)))),
  /** The name by which iSCSI servers know this machine; without it QEMU's. */
  'iscsi-initiator': v.optional(v.pipe(v.string(), v.regex(/^(iqn|eui|naa)\.[A-Za-z0-9.:-]+$/))),
  /** The folder with a file for each user of `iscsi://USER@HOST` targets, which has the password and no end of line. */
  'iscsi-secrets': v.optional(path),
  /** Whether an image may name others that it is made of: backing files and a qcow2 image's data file. */
  'backing-files': v.optional(v.boolean(), DEFAULTS['backing-files']),
  /** The user that storage helpers run as, if the system has one of that name; root otherwise. */
  'helper-user': v.optional(v.pipe(v.string(), v.minLength(1)), DEFAULTS['helper-user']),
});

/** The daemon's configuration: the keys of the TOML file, with their defaults. */
export type Config = v.InferOutput<typeof schema>;
/** Keys that are undefined are not set. */
export type PartialConfig = v.InferInput<typeof schema>;

type Key = keyof typeof schema.entries;
/** Every key of the file. */
export const CONFIG_KEYS = Object.keys(schema.entries) as Key[];

const wholeText = ([least, most]: Range) => `a whole number from ${least} to ${most}`;
const PATH_OR_NONE = 'an absolute path, or false';

/** What a key's value may be, for people. @public for the page that is made from it. */
export const ALLOWED: Record<Key, string> = {
  types: `a list of at least one of ${SERVED_TYPES.join(', ')}`,
  'log-level': LOG_LEVELS.join(', '),
  'control-socket': PATH_OR_NONE,
  metrics: 'the path of a socket, or HOST:PORT with a port of at most 65535',
  page: `${LOOPBACK_ADDRESS_FORM}; other machines reach all else, and the page asks nobody who they are`,
  'nbd-directory': PATH_OR_NONE,
  'journal-directory': PATH_OR_NONE,
  threads: wholeText(RANGES.threads),
  transfer: DATA_PATHS.join(', '),
  'persistent-pages': wholeText(RANGES['persistent-pages']),
  'poll-microseconds': wholeText(RANGES['poll-microseconds']),
  'sector-size': '512, "image"',
  'max-queues': wholeText(RANGES['max-queues']),
  'max-ring-page-order': wholeText(RANGES['max-ring-page-order']),
  'max-indirect-segments': wholeText(RANGES['max-indirect-segments']),
  engine: ENGINES.join(', '),
  'helper-directory': 'an absolute path',
  'on-error': ON_ERROR.join(', '),
  'on-error-for': `a table from an image or device, in which * stands for anything, to ${ON_ERROR.join(', ')}`,
  'disk-limits': RATE_LIMITS_FORM,
  'disk-limits-for': `a table from an image or device, in which * stands for anything, to ${RATE_LIMITS_FORM}`,
  'guest-limits': RATE_LIMITS_FORM,
  'stall-seconds': wholeText(RANGES['stall-seconds']),
  'growth-seconds': wholeText(RANGES['growth-seconds']),
  'stop-seconds': wholeText(RANGES['stop-seconds']),
  'reconnect-seconds': wholeText(RANGES['reconnect-seconds']),
  'unflushed-mebibytes': wholeText(RANGES['unflushed-mebibytes']),
  direct: '"auto", true, false',
  'image-directories': 'a list of absolute paths',
  'nbd-hosts': 'a list of host names or addresses, without ports',
  'nbd-tls': 'an absolute path',
  'ceph-conf': 'an absolute path',
  'ceph-user': 'a name without client. in front',
  'rbd-pools': 'a list of names of pools',
  'iscsi-hosts': 'a list of host names or addresses, without ports',
  'iscsi-initiator': 'a name that begins with iqn., eui. or naa.',
  'iscsi-secrets': 'an absolute path',
  'backing-files': 'true, false',
  'helper-user': 'the name of a user',
};

/** Names among which a wrong value has its nearest. */
const NAMES: Partial<Record<Key, readonly string[]>> = {
  types: SERVED_TYPES,
  'log-level': LOG_LEVELS,
  transfer: DATA_PATHS,
  engine: ENGINES,
  'sector-size': ['image'],
  'on-error': ON_ERROR,
  direct: ['auto'],
};

/**
 * Reads the configuration and lays `overrides` (the command line) over it. Without `file` the default one is read if
 * it is there. Errors: ERR_CONFIG with every problem of the file, a line each; ERR_USAGE for an override.
 */
export function loadConfig(file: string | undefined, overrides: PartialConfig): Config {
  const { values, problems } = readConfig(file ?? DEFAULT_CONFIG_PATH, file === undefined);
  const from = file ?? DEFAULT_CONFIG_PATH;
  if (problems.length > 0) {
    const text = problems.map(formatProblem).join('\n');
    throw new BlockdError('ERR_CONFIG', 'read configuration', `configuration ${text}`, { path: from });
  }
  const wrong: string[] = [];
  for (const [key, value] of Object.entries(overrides) as [Key, unknown][]) {
    if (value === undefined) continue;
    const { success } = v.safeParse(schema.entries[key], value);
    if (!success) wrong.push(`--${key} ${value}: allowed: ${ALLOWED[key]}`);
    values[key] = value;
  }
  if (wrong.length > 0) throw new BlockdError('ERR_USAGE', 'read options', wrong.join('\n'));
  return v.parse(schema, values);
}

/** Everything that is wrong in the configuration file, in the order of its lines. Never throws. */
export function checkConfig(file: string): ConfigProblem[] {
  return readConfig(file, false).problems;
}

interface ReadConfig {
  readonly values: Record<string, unknown>;
  readonly problems: ConfigProblem[];
}

function readConfig(file: string, mayBeMissing: boolean): ReadConfig {
  const none = { file, line: undefined, column: undefined, key: undefined, allowed: undefined, suggestion: undefined };
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    if (mayBeMissing && errorCode(error) === 'ENOENT') return { values: {}, problems: [] };
    return { values: {}, problems: [{ ...none, found: (error as Error).message }] };
  }
  const text = bytes.toString('utf8');
  const wrongByte = Buffer.from(text).findIndex((byte, i) => byte !== bytes[i]);
  if (wrongByte >= 0) {
    const at = positionOf(text, bytes.subarray(0, wrongByte).toString('utf8').length);
    return { values: {}, problems: [{ ...none, ...at, found: 'bytes that are not UTF-8' }] };
  }
  try {
    const values = parseToml(text);
    return { values, problems: checkValues(file, values, locateKeys(text)) };
  } catch (error) {
    if (!(error instanceof TomlError)) return { values: {}, problems: [{ ...none, found: (error as Error).message }] };
    const lines = text.split('\n');
    const line = Math.min(Math.max(error.line, 1), lines.length);
    const source = withoutControls(lines[line - 1] ?? '');
    const column = Math.min(Math.max(error.column, 1), source.length + 1);
    const found = withoutControls(error.message.split('\n')[0] ?? '');
    return { values: {}, problems: [{ ...none, line, column, found, source }] };
  }
}

function checkValues(file: string, values: Record<string, unknown>, keys: Map<string, Position>): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  for (const [name, value] of Object.entries(values)) {
    const { line, column } = keys.get(name) ?? { line: 1, column: 1 };
    const place = { file, line, column };
    if (!isKey(name)) {
      const suggestion = nearest(name, CONFIG_KEYS);
      const allowed = `the keys ${CONFIG_KEYS.join(', ')}`;
      problems.push({ ...place, key: withoutControls(name), found: 'an unknown key', allowed, suggestion });
      continue;
    }
    const parsed = v.safeParse(schema.entries[name], value, { abortPipeEarly: true });
    for (const issue of parsed.issues ?? []) {
      const key = [name, v.getDotPath(issue)].filter((part) => part).join('.');
      const suggestion = typeof issue.input === 'string' ? nearest(issue.input, NAMES[name] ?? []) : undefined;
      problems.push({ ...place, key, found: describeValue(issue.input), allowed: ALLOWED[name], suggestion });
    }
  }
  return problems.sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

function isKey(name: string): name is Key {
  return Object.hasOwn(schema.entries, name);
}
