import { refusal } from '../refusal.js';
import { iscsiTarget } from './iscsi-target.js';
import { rbdTarget } from './rbd-target.js';
import { DEFAULT_CEPH_CONF, type NetworkSettings } from './settings.js';
import type { NetworkDriver } from './source.js';

/** Which images are opened at all. */
export interface NetworkPolicy {
  /** Images must be in or below one of these directories; anywhere if undefined. */
  readonly directories?: readonly string[] | undefined;
  /** Pools of the cluster of `ceph-conf`; any if this and `directories` are undefined, none if only this is. */
  readonly rbdPools?: readonly string[] | undefined;
  /** Hosts of iSCSI servers, as `rbdPools`. */
  readonly iscsiHosts?: readonly string[] | undefined;
}

export interface CheckedNetwork extends NetworkPolicy {
  readonly network?: NetworkSettings | undefined;
}

/** Error: ERR_IMAGE, the configuration does not allow it. */
export function checkNetwork(target: string, driver: NetworkDriver, options: CheckedNetwork): void {
  if (driver === 'iscsi') {
    const { host } = iscsiTarget(target);
    const plain = host.replace(/^\[(.*)\]$/, '$1');
    check(
      target,
      { what: `the server ${plain}`, name: plain, allowed: options.iscsiHosts, key: 'iscsi-hosts' },
      options,
    );
    return;
  }
  const { pool, conf } = rbdTarget(target);
  check(target, { what: `the pool ${pool}`, name: pool, allowed: options.rbdPools, key: 'rbd-pools' }, options);
  const { cephConf = DEFAULT_CEPH_CONF } = options.network ?? {};
  const isLimited = options.rbdPools !== undefined || options.directories !== undefined;
  if (isLimited && conf !== undefined && conf !== cephConf) {
    throw refusal(target, `conf=${conf} is not ${cephConf}, of which rbd-pools names the pools; change ceph-conf`);
  }
}

interface Checked {
  readonly what: string;
  readonly name: string;
  readonly allowed: readonly string[] | undefined;
  readonly key: string;
}

function check(target: string, { what, name, allowed, key }: Checked, { directories }: NetworkPolicy): void {
  if ((allowed === undefined && directories === undefined) || allowed?.includes(name)) return;
  const reason = allowed
    ? `is none of ${key} (${allowed.join(', ')})`
    : `is not allowed: image-directories is set, and ${key} is not`;
  throw refusal(target, `${what} ${reason}`);
}
