import type { Domid, EvtchnPort } from '@xenpv/xen-sys';
import type { Request } from '../wire/connection.js';
import { decodeNumber, decodeStrings, decodeText, encodeStrings, nothing, XsOp } from '../wire/wire.js';

/** Bits of {@link XenstoreClient.getFeatures} (docs/misc/xenstore-ring.txt). */
export const XenstoreFeature = {
  /** XENSTORE_SERVER_FEATURE_RECONNECTION: a guest may have its ring reset by `connection` in the ring's page. */
  reconnection: 1,
  /** XENSTORE_SERVER_FEATURE_ERROR: `error` in the ring's page tells why the daemon gave up a connection. */
  error: 2,
  /** XENSTORE_SERVER_FEATURE_WATCHDEPTH, since Xen 4.22: XS_WATCH takes a depth. */
  watchDepth: 4,
  /** XENSTORE_SERVER_FEATURE_DOMID_ANY, since Xen 4.22: an entry of DOMID_ANY in permissions stands for all domains. */
  domidAny: 8,
} as const;

/** What a toolstack asks of the daemon itself, about domains, features and quotas: the requests as they go out. */
export const daemonRequests = {
  domainPath: (domid: Domid) => request(XsOp.getDomainPath, [domid], decodeFirst),
  introduce: (domid: Domid, gfn: number | bigint, eventChannel: EvtchnPort) =>
    request(XsOp.introduce, [domid, gfn, eventChannel], nothing),
  /** One empty word: oxenstored does not look at a message without payload before the next one comes. */
  resetWatches: () => request(XsOp.resetWatches, [''], nothing),
  release: (domid: Domid) => request(XsOp.release, [domid], nothing),
  isIntroduced: (domid: Domid) => request(XsOp.isDomainIntroduced, [domid], (payload) => decodeFirst(payload) === 'T'),
  resume: (domid: Domid) => request(XsOp.resume, [domid], nothing),
  setTarget: (domid: Domid, target: Domid) => request(XsOp.setTarget, [domid, target], nothing),
  control: (command: string, args: readonly string[]) =>
    request(XsOp.control, [command, ...args], (payload) => decodeText(payload).replace(/\0+$/, '')),
  features: (domid: Domid | undefined) => request(XsOp.getFeature, domid === undefined ? [] : [domid], decodeNumber),
  setFeatures: (domid: Domid, features: number) => request(XsOp.setFeature, [domid, features], nothing),
  quotaNames: () => request(XsOp.getQuota, [], (payload) => decodeFirst(payload).split(' ').filter(Boolean)),
  quota: (name: string, domid: Domid | undefined) =>
    request(XsOp.getQuota, domid === undefined ? [name] : [domid, name], decodeNumber),
  setQuota: (name: string, value: number, domid: Domid | undefined) =>
    request(XsOp.setQuota, domid === undefined ? [name, value] : [domid, name, value], nothing),
};

function request<T>(
  type: number,
  args: readonly (string | number | bigint)[],
  decode: (payload: Uint8Array) => T,
): Request<T> {
  return { type, path: undefined, payload: encodeStrings(...args.map(String)), decode };
}

function decodeFirst(payload: Uint8Array): string {
  return decodeStrings(payload)[0] ?? '';
}
