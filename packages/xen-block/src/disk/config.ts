import { posix } from 'node:path';
import { formatVdev, type KeySchema, toolstackKeys } from '@xenpv/blkif';
import type { DeviceAddress, KeyTexts } from '@xenpv/xenbus';
import type { OperationOptions, XenstoreOperations } from '@xenpv/xenstore';
import { ignoredChannel } from '../diagnostics.js';
import { type DiskConfig, ON_ERROR, type OnError } from '../disk-description.js';
import { XenBlockError } from '../errors.js';
import { parseRateLimits, RATE_LIMITS_FORM, type RateLimits } from '../rate-limits.js';
import { readHints } from './hints.js';

const configKeys = {
  dev: toolstackKeys.dev,
  params: toolstackKeys.params,
  mode: toolstackKeys.mode,
  'device-type': toolstackKeys['device-type'],
  'direct-io-safe': toolstackKeys['direct-io-safe'],
  'discard-enable': toolstackKeys['discard-enable'],
  'on-error': toolstackKeys['on-error'],
  limits: toolstackKeys.limits,
  'guest-limits': toolstackKeys['guest-limits'],
  paused: toolstackKeys.paused,
  incoming: toolstackKeys.incoming,
} as const satisfies KeySchema;

/**
 * Reads the toolstack's keys from a backend's directory; given a client, in one transaction. Error: ENOENT, nothing says what a disk is
 * made of; a cdrom drive without params is empty.
 */
export async function readDiskConfig(
  store: XenstoreOperations,
  path: string,
  address: DeviceAddress,
  options: OperationOptions = {},
): Promise<DiskConfig> {
  const [keys, vm, name] = await Promise.all([
    readHints(store, path, configKeys, options),
    readOfDomain(store, address, 'vm', options),
    readOfDomain(store, address, 'name', options),
  ]);
  // As blkback: xenopsd writes floppy too, which is a disk.
  const deviceType = keys['device-type'] === 'cdrom' ? 'cdrom' : 'disk';
  const params = keys.params ?? (deviceType === 'cdrom' ? '' : undefined);
  if (params === undefined) {
    throw new XenBlockError('ENOENT', 'prepare', 'there is no params key that names an image', {
      path: `${path}/params`,
    });
  }
  return {
    address,
    vdev: keys.dev ?? formatVdev(address.devid),
    deviceType,
    ...ofKeys({ ...keys, params }, path, address),
    vm,
    direct: keys['direct-io-safe'],
    discard: keys['discard-enable'],
    incoming: keys.incoming ?? name?.endsWith(INCOMING) ?? false,
  };
}

/**
 * A disk's configuration after its `keys` (see BlockDevice) have changed to `values`, which are texts. All others stay.
 */
export function withChangedKeys(config: DiskConfig, values: KeyTexts, path: string): DiskConfig {
  return { ...config, ...ofKeys(values, path, config.address) };
}

/** Keys of the toolstack that may change while the disk is there. */
interface ChangingKeys {
  readonly params?: string | undefined;
  readonly mode?: string | undefined;
  readonly 'on-error'?: string | undefined;
  readonly limits?: string | undefined;
  readonly 'guest-limits'?: string | undefined;
  readonly paused?: string | undefined;
}

function ofKeys(keys: ChangingKeys, path: string, address: DeviceAddress) {
  const { params = '', mode, 'on-error': onError, limits, 'guest-limits': guestLimits, paused } = keys;
  return {
    ...parseParams(params, address.type),
    readOnly: !mode?.includes('w'),
    shared: mode?.includes('!') ?? false,
    onError: onErrorOf(onError, `${path}/on-error`, address),
    limits: limitsOf(limits, `${path}/limits`, address),
    guestLimits: limitsOf(guestLimits, `${path}/guest-limits`, address),
    paused: pausedOf(paused, `${path}/paused`, address),
  };
}

/** Whoever writes what is no date has meant a pause all the same: one too many loses nothing. */
function pausedOf(value: string | undefined, path: string, address: DeviceAddress): Date | undefined {
  if (value === undefined || value === '') return undefined;
  const since = new Date(value);
  if (!Number.isNaN(since.getTime())) return since;
  ignoredChannel.publish({ address, path, value, expected: 'an ISO date; the disk is paused' });
  return new Date();
}

/** An operator's key, which toolstacks do not know: what is wrong with it is not the guest's to suffer. */
function onErrorOf(value: string | undefined, path: string, address: DeviceAddress): OnError | undefined {
  if (value === undefined || isOnError(value)) return value;
  ignoredChannel.publish({ address, path, value, expected: ON_ERROR.join(', ') });
  return undefined;
}

function limitsOf(value: string | undefined, path: string, address: DeviceAddress): RateLimits | undefined {
  const limits = value === undefined ? undefined : parseRateLimits(value);
  if (value !== undefined && !limits) ignoredChannel.publish({ address, path, value, expected: RATE_LIMITS_FORM });
  return limits;
}

function isOnError(text: string): text is OnError {
  return (ON_ERROR as readonly string[]).includes(text);
}

/** What xl appends to the name of a domain while it migrates to this host; it is taken away before the guest goes on. */
const INCOMING = '--incoming';

/** A driver domain may not read it: there a domain is its own machine, and none is known to be on its way. */
async function readOfDomain(
  store: XenstoreOperations,
  { domid }: DeviceAddress,
  key: 'vm' | 'name',
  options: OperationOptions,
): Promise<string | undefined> {
  try {
    return await store.tryRead(`/local/domain/${domid}/${key}`, options);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EACCES') return undefined;
    throw error;
  }
}

/**
 * libxl writes `format:target` for qdisk and tap, where aio means raw, and the bare target for phy (type vbd), which
 * other toolstacks write as `phy:target`. It lets most formats through for qdisk only: what is raw to it may name its
 * format once more, as `qcow2:/images/a.qcow2`. A target that is an absolute path is never taken for a format, nor is a
 * word that is none of {@link IMAGE_FORMATS}, which may be that of an URL. `type` is the backend's: the word after
 * `backend/` in its path, `vbd` or another.
 */
export function parseParams(
  params: string,
  type: string,
): {
  /** `raw`, one of {@link IMAGE_FORMATS}, or, for types other than `vbd`, any other word before the first colon. */
  format: string;
  /** The rest of `params`: a path, a name below /dev, or what the format understands; empty for no medium. */
  target: string;
} {
  const match = (type === 'vbd' ? /^(phy|file):(.*)$/s : /^([a-z][a-z0-9+-]*):(.*)$/s).exec(params);
  const [, format, target] = match ?? ['', 'raw', params];
  // Of a type other than vbd the first word is a format, known or not, or that of an URL.
  if (match && !RAW.includes(format)) return { format, target };
  return namedFormat(target) ?? { format: 'raw', target };
}

/** The format that a target itself begins with. */
function namedFormat(target: string): { format: string; target: string } | undefined {
  const [, format = '', rest = ''] = /^([a-z0-9]+):(.*)$/s.exec(target) ?? [];
  if (format === 'raw') return { format, target: rest };
  return IMAGE_FORMATS.includes(format) ? { format, target: rest } : undefined;
}

/** Words for raw images: libxl's, then those of older toolstacks. */
const RAW: readonly string[] = ['aio', 'empty', 'phy', 'file', 'raw'];

/** Formats other than raw that a target may begin with. */
export const IMAGE_FORMATS: readonly string[] = ['qcow2', 'qcow', 'qed', 'vhd', 'vhdx', 'vmdk', 'vdi'];

/**
 * Where a target is: names without a slash in front are devices below /dev (xl-disk-configuration(5)), as `vg/volume`.
 * Error: EINVAL, it leads out of /dev.
 */
export function imagePath(target: string): string {
  if (target.startsWith('/')) return target;
  const path = posix.resolve('/dev', target);
  if (path.startsWith('/dev/')) return path;
  throw new XenBlockError('EINVAL', 'prepare', `${target} is not below /dev; name the image by its whole path`, {
    path,
  });
}
