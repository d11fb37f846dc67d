import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { MAX_RING_PAGE_ORDER } from '@xenpv/blkif';
import { parse as parseToml, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { BlockdError, errorCode } from '../errors.js';
import { LISTEN_ADDRESS_FORM, parseListenAddress } from '../listen-address.js';

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
  engine: 'auto',
  direct: 'auto',
} as const;

/** Whole numbers that are allowed, from the first to the second. */
export type Range = readonly [least: number, most: number];

export const RANGES = {
  threads: [0, 64],
  'persistent-pages': [1, 1 << 20],
  'poll-microseconds': [0, 10_000],
  'max-queues': [1, 256],
  'max-ring-page-order': [0, MAX_RING_PAGE_ORDER],
  'max-indirect-segments': [0, 4096],
} as const satisfies Record<string, Range>;

const whole = ([least, most]: Range) =>
  v.pipe(
    v.number(),
    v.check((n) => Number.isInteger(n) && n >= least && n <= most, `expected a whole number from ${least} to ${most}`),
  );
const path = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'));
const pathOrNone = v.union([path, v.literal(false)]);
const types = v.pipe(v.array(v.picklist(SERVED_TYPES)), v.minLength(1, 'expected at least one type'));

const schema = v.strictObject({
  types: v.optional(types, [...DEFAULTS.types]),
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
  /** Where disks of type vbd3 are exported over NBD for HVM guests, where the hotplug script looks; false: nowhere. */
  'nbd-directory': v.optional(pathOrNone, DEFAULTS['nbd-directory']),
  /** Where requests in flight are noted, for the process that follows a killed one; false: nowhere. */
  'journal-directory': v.optional(pathOrNone, DEFAULTS['journal-directory']),
  /** Threads that serve rings besides the main one; by default one per processor but one. */
  threads: v.optional(whole(RANGES.threads), Math.min(availableParallelism() - 1, RANGES.threads[1])),
  /** How data gets between guests and storage, see XenBlockBackendOptions. */
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
  /** Images must be in or below one of these directories; without it any path that the toolstack names is opened. */
  'image-directories': v.optional(v.array(path)),
});

/** The daemon's configuration: the keys of the TOML file, with their defaults. */
export type Config = v.InferOutput<typeof schema>;
/** Keys that are undefined are not set. */
export type PartialConfig = v.InferInput<typeof schema>;

/**
 * Reads the configuration and lays `overrides` (the command line) over it. Without `file` the default one is read if
 * it is there. Error: ERR_CONFIG with the file, the key and what was expected.
 */
export function loadConfig(file: string | undefined, overrides: PartialConfig): Config {
  const from = file ?? DEFAULT_CONFIG_PATH;
  const values = file === undefined ? readDefaultFile() : readToml(file);
  for (const [key, value] of Object.entries(overrides)) if (value !== undefined) values[key] = value;
  const parsed = v.safeParse(schema, values);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw invalid(from, `configuration ${from}: ${v.getDotPath(issue) ?? ''}: ${describe(issue)}`);
}

function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object') return `unknown key; the keys are ${Object.keys(schema.entries).join(', ')}`;
  return issue.message;
}

function readDefaultFile(): Record<string, unknown> {
  try {
    return readToml(DEFAULT_CONFIG_PATH);
  } catch (error) {
    if (errorCode((error as Error).cause) === 'ENOENT') return {};
    throw error;
  }
}

function readToml(file: string): Record<string, unknown> {
  try {
    return parseToml(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof TomlError) {
      const reason = error.message.split('\n')[0];
      throw invalid(file, `configuration ${file}:${error.line}:${error.column}: ${reason}`, error);
    }
    throw invalid(file, `configuration ${file}: ${(error as Error).message}`, error);
  }
}

function invalid(file: string, message: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_CONFIG', 'read configuration', message, { path: file, cause });
}
