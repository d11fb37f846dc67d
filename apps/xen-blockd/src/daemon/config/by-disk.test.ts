import type { DiskConfig, OnError } from '@xenpv/xen-block';
import { expect, it } from 'vitest';
import { byDisk } from './by-disk.js';

const policyOf = byDisk(
  {
    '/srv/db-*.raw': 'stop',
    '/srv/*': 'stop-on-enospc',
    'qdisk-*-51728': 'stop',
    '/odd/a+(b).raw': 'stop',
  },
  'report',
);

it.each<[target: string, devid: number, policy: OnError]>([
  ['/srv/db-1.raw', 51712, 'stop'],
  ['/srv/db-.raw', 51712, 'stop'],
  ['/srv/db-1.raw.old', 51712, 'stop-on-enospc'],
  ['/srv/other', 51728, 'stop-on-enospc'],
  ['/var/other', 51728, 'stop'],
  ['/var/other', 51712, 'report'],
  ['/old/srv/db-1.raw', 51712, 'report'],
  ['/odd/a+(b).raw', 51712, 'stop'],
  ['/odd/aab.raw', 51712, 'report'],
])('a disk with the image %s and the device %i: %s', (target, devid, policy) => {
  expect(policyOf({ target, address: { type: 'qdisk', domid: 3, devid } } as DiskConfig)).toBe(policy);
});
