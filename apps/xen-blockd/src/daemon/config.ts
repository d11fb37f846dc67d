import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parse as parseToml, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { BlockdError, errorCode } from '../errors.js';

/** Where the configuration is looked for when none is named. */
export const DEFAULT_CONFIG_PATH = '/etc/xen-blockd.toml';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_LEVEL_NAMES: readonly string[] = LOG_LEVELS;

/** The backend types that a toolstack writes for disks: `backend/<type>/<domid>/<devid>`. */
export const BACKEND_TYPES = ['qdisk', 'vbd3', 'vbd'] as const;
export type BackendType = (typeof BACKEND_TYPES)[number];

/** Ways of the data, as XenBlockBackendOptions.dataPath has them. */
export const TRANSFERS = ['copy', 'map', 'persistent'] as const;
/** As FileImageOptions.engine has them. */
export const ENGINES = ['auto', 'io_uring', 'threads', 'sync'] as const;

const whole = (least: number, most: number) =>
  v.pipe(
    v.number(),
    v.check((n) => Number.isInteger(n) && n >= least && n <= most, `expected a whole number from ${least} to ${most}`),
  );
const path = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'));

const schema = v.strictObject({
  types: v.optional(v.pipe(v.array(v.picklist(BACKEND_TYPES)), v.minLength(1, 'expected at least one type')), [
    'qdisk',
  ]),
  'log-level': v.optional(v.picklist(LOG_LEVELS), 'info'),
  /** Unix socket on which `xen-blockd list` and `stats` ask; false for none. */
  'control-socket': v.optional(v.union([path, v.literal(false)]), '/run/xen-blockd/control'),
  /** Where Prometheus asks: a Unix socket's path or HOST:PORT. */
  metrics: v.optional(
    v.pipe(v.string(), v.regex(/^(\/.+|[^/]*:[0-9]+)$/, 'expected the path of a socket or HOST:PORT')),
  ),
  /** Where disks of type vbd3 are exported over NBD for HVM guests, where the hotplug script looks; false: nowhere. */
  'nbd-directory': v.optional(v.union([path, v.literal(false)]), '/run/xen-blockd/nbd'),
  /** Where the requests under way are noted for a process that follows one that was killed; false: nowhere. */
  'journal-directory': v.optional(v.union([path, v.literal(false)]), '/run/xen-blockd/journal'),
  /** Threads that serve rings besides the main one; one per processor but one when not given. */
  threads: v.optional(whole(0, 64), Math.min(availableParallelism() - 1, 64)),
  /** How data gets between guests and storage, see XenBlockBackendOptions. */
  transfer: v.optional(v.picklist(TRANSFERS)),
  'persistent-pages': v.optional(whole(1, 1 << 20)),
  /** Longest time to look for more requests before sleeping; processor time for latency. */
  'poll-microseconds': v.optional(whole(0, 10_000)),
  /** What guests see of storage with larger sectors: 512, or `image` for its own. */
  'sector-size': v.optional(v.picklist([512, 'image'])),
  'max-queues': v.optional(whole(1, 256)),
  'max-ring-page-order': v.optional(whole(0, 4)),
  'max-indirect-segments': v.optional(whole(0, 4096)),
  /** Storage engine of files and block devices. */
  engine: v.optional(v.picklist(ENGINES), 'auto'),
  /** Past the page cache; `auto` where the storage's alignment allows it. */
  direct: v.optional(v.union([v.literal('auto'), v.boolean()]), 'auto'),
  /** Images must be in or below one of these directories; without it any path that the toolstack names is opened. */
  'image-directories': v.optional(v.array(path)),
});

/** The daemon's configuration: the keys of the TOML file. */
export type Config = v.InferOutput<typeof schema>;
export type PartialConfig = v.InferInput<typeof schema>;

/**
 * Reads the configuration and lays `overrides` (the command line) over it. Without `file` the default one is read if
 * it is there. Errors: ERR_CONFIG with the file, the key and what was expected.
 */
export function loadConfig(file: string | undefined, overrides: PartialConfig): Config {
  const from = file ?? DEFAULT_CONFIG_PATH;
  const parsed = v.safeParse(schema, { ...readToml(from, file !== undefined), ...overrides });
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const key = v.getDotPath(issue) ?? '';
  throw new BlockdError('ERR_CONFIG', `configuration ${from}: ${key}: ${describe(issue)}`);
}

function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object') return `unknown key; the keys are ${Object.keys(schema.entries).join(', ')}`;
  return issue.message;
}

function readToml(file: string, required: boolean): Record<string, unknown> {
  try {
    return parseToml(readFileSync(file, 'utf8'));
  } catch (error) {
    if (!required && errorCode(error) === 'ENOENT') return {};
    if (error instanceof TomlError) {
      const reason = error.message.split('\n')[0];
      throw new BlockdError('ERR_CONFIG', `configuration ${file}:${error.line}:${error.column}: ${reason}`);
    }
    throw new BlockdError('ERR_CONFIG', `configuration ${file}: ${(error as Error).message}`, { cause: error });
  }
}
