import type { NetworkDriver } from './source.js';

/** What helps, by what QEMU's drivers say. */
const ADVICE: Record<NetworkDriver, readonly (readonly [said: RegExp, advice: string])[]> = {
  rbd: [
    [/error opening pool/, 'is the pool spelled as in `ceph osd pool ls`, and allowed to this user?'],
    [/error reading header/, 'is the image spelled as in `rbd ls POOL`, and allowed to this user?'],
    [/No such file or directory/, 'are pool, namespace, image and snapshot spelled as in `rbd ls POOL`?'],
    [
      /error connecting.*(timed out|Timed out)/i,
      'no monitor of the cluster answered, or they have no quorum: `ceph -s`',
    ],
    [
      /error connecting.*(permission denied|not permitted|invalid argument|operation not supported)/i,
      'the cluster does not take the key of this user: compare the keyring with `ceph auth get`',
    ],
    [
      /permission denied|not permitted/i,
      "the user may not: ceph auth caps … mon 'profile rbd' osd 'profile rbd pool=POOL'",
    ],
  ],
  iscsi: [
    [/Target not found/, 'does the server have a target of this name, and let this iscsi-initiator have it?'],
    [
      /Authentication failure|Authorization failure/,
      'compare the user in the target, its file in iscsi-secrets and iscsi-initiator with what the server allows',
    ],
    [/LOGICAL_UNIT_NOT_SUPPORTED/, 'is the number behind the target that of one of its units?'],
    [/can ?not resolv/i, 'is the name of the server known to this machine?'],
    [/connect|timed? ?out/i, 'is the server there, on this port, and not behind a firewall?'],
  ],
};

const NO_DRIVER = /Unknown driver|does not accept value|not (?:found|installed|supported)|Unknown protocol/i;

/** What a helper said, and what to do about it. */
export function advised(reason: string, driver: NetworkDriver): string {
  if (NO_DRIVER.test(reason) && /driver|module/i.test(reason)) {
    return `${reason}; qemu-storage-daemon has no driver ${driver}: Debian: apt-get install qemu-block-extra`;
  }
  const advice = ADVICE[driver].find(([said]) => said.test(reason))?.[1];
  return advice === undefined ? reason : `${reason}; ${advice}`;
}
