import type { Domid } from '@xenpv/xen-sys';
/** Which device: `backend/<type>/<domid>/<devid>` below the backend's domain. */
export interface DeviceAddress {
  /** The backend type: `qdisk`, `vbd`, `vbd3`. */
  readonly type: string;
  /** The frontend's domain. */
  readonly domid: Domid;
  /** The device number; for disks the vdev number. */
  readonly devid: number;
}

/** The home of a domain in xenstore: `/local/domain/5`. */
export function domainPath(domid: Domid): string {
  return `/local/domain/${domid}`;
}

/** The backend's directory of a device: `/local/domain/0/backend/vbd/5/51712`. */
export function backendPath(ownDomid: Domid, address: DeviceAddress): string {
  return `${domainPath(ownDomid)}/backend/${address.type}/${address.domid}/${address.devid}`;
}

/** The address in a path at or below a device's directory; undefined for one above it, or of another domain. */
export function parseBackendPath(ownDomid: Domid, path: string): DeviceAddress | undefined {
  const prefix = `${domainPath(ownDomid)}/backend/`;
  const relative = path.startsWith(prefix) ? path.slice(prefix.length) : path.replace(/^backend\//, '');
  const [type, domid, devid] = relative.split('/');
  if (!type || !isNumber(domid) || !isNumber(devid)) return undefined;
  return { type, domid: Number(domid), devid: Number(devid) };
}

export function isNumber(text: string | undefined): text is string {
  return text !== undefined && /^(0|[1-9][0-9]{0,9})$/.test(text);
}

/** A device's name in messages: `vbd-5-51712`. */
export function deviceName(address: DeviceAddress): string {
  return `${address.type}-${address.domid}-${address.devid}`;
}
