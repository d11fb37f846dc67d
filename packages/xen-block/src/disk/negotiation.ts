import {
  type Abi,
  abiOfProtocol,
  frontendKeys,
  type KeyField,
  parseKey,
  queueDirectory,
  queueKeys,
  ringRefKeys,
} from '@xenpv/blkif';
import type { EvtchnPort } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreOperations } from '@xenpv/xenstore';
import { XenBlockError } from '../errors.js';
import { readHints } from './hints.js';

/** What was offered to the frontend. */
export interface NegotiationLimits {
  /** The key `max-ring-page-order`: rings of up to 2^order pages. */
  readonly maxRingPageOrder: number;
  /** The key `multi-queue-max-queues`: 1 or more. */
  readonly maxQueues: number;
}

/** One ring, as its frontend published it. */
export interface NegotiatedRing {
  /** Grant references of its pages, in order: of `ring-ref`, or of `ring-ref0` and on. */
  readonly refs: Uint32Array;
  /** The key `event-channel`: the unbound port that the frontend has allocated for the backend's domain. */
  readonly eventChannel: EvtchnPort;
}

/** What the frontend chose. */
export interface Negotiated {
  /** The layout that the key `protocol` names. Without that key: x86_32 on an x86 machine, arm on others. */
  readonly abi: Abi;
  /** The frontend's `feature-persistent`, whatever was offered; false when absent. */
  readonly persistent: boolean;
  /** By number of the queue; as many as `multi-queue-num-queues` says, or 1 without that key. */
  readonly rings: readonly NegotiatedRing[];
}

/**
 * Reads a frontend's choice and checks it against what was offered. Throws a {@link XenBlockError} that names the
 * key, what it says and what was expected. Rejects with the signal's reason, too.
 */
export async function readNegotiated(
  store: XenstoreOperations,
  path: string,
  limits: NegotiationLimits,
  options: OperationOptions = {},
): Promise<Negotiated> {
  const keys = await readHints(store, path, frontendKeys, options);
  const abi = abiOfProtocol(keys.protocol);
  if (!abi) throw refused(`${path}/protocol`, `"${keys.protocol}"`, 'x86_32-abi, x86_64-abi or arm-abi');
  const queues = keys['multi-queue-num-queues'];
  if (queues < 1 || queues > limits.maxQueues) {
    throw refused(`${path}/multi-queue-num-queues`, String(queues), `1 to ${limits.maxQueues}`);
  }
  const order = ringPageOrder(path, keys['ring-page-order'], keys['num-ring-pages']);
  if (order !== undefined && order > limits.maxRingPageOrder) {
    throw refused(`${path}/ring-page-order`, String(order), `0 to ${limits.maxRingPageOrder}`);
  }
  const directories = Array.from({ length: queues }, (_, queue) => queueDirectory(queue, queues));
  const read: Read = (key) => store.tryRead(key, options);
  const rings = await Promise.all(
    directories.map((directory) => readRing(read, directory ? `${path}/${directory}` : path, order)),
  );
  return { abi, persistent: keys['feature-persistent'], rings };
}

/** The order, also from the older spelling in pages; or undefined. */
function ringPageOrder(path: string, order: number | undefined, pages: number | undefined): number | undefined {
  if (order !== undefined || pages === undefined) return order;
  const fromPages = Math.log2(pages);
  if (!Number.isInteger(fromPages)) throw refused(`${path}/num-ring-pages`, String(pages), 'a power of two');
  return fromPages;
}

/** A key as a text, by its path; undefined for one that is not there. */
type Read = (path: string) => Promise<string | undefined>;

async function readRing(read: Read, path: string, order: number | undefined): Promise<NegotiatedRing> {
  const [eventChannel, ...refs] = await Promise.all([
    readNumber(read, `${path}/event-channel`, queueKeys['event-channel']),
    ...ringRefKeys(order).map((key) => readRef(read, path, key, order)),
  ]);
  return { eventChannel, refs: Uint32Array.from(refs) };
}

/** A ring of one page may be named either way, whatever the order key says. */
async function readRef(read: Read, path: string, key: string, order: number | undefined): Promise<number> {
  const plain = order === 0 && (await read(`${path}/${key}`)) === undefined;
  return readNumber(read, `${path}/${plain ? 'ring-ref' : key}`, queueKeys['ring-ref']);
}

async function readNumber(read: Read, path: string, field: KeyField & { type: 'uint' }): Promise<number> {
  const text = await read(path);
  const value = parseKey(field, text);
  if (value !== undefined) return value;
  throw refused(path, text === undefined ? 'missing' : `"${text}"`, 'a number');
}

function refused(path: string, found: string, expected: string): XenBlockError {
  return new XenBlockError('EINVAL', 'connect', `${path} is ${found}; expected ${expected}`, { path });
}
