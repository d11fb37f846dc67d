/** Way A: xen-blockd in an unprivileged storage driver domain. */
import { SUITES } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { attachDetach, basics, twoGuests } from './shared/disk-tests.mjs';
import { driverDomain, onWay } from './shared/ways.mjs';

group('A driver domain', onWay(driverDomain), [
  test('passes the provider suite', async ({ way: { driver } }) => {
    const output = await driver.sh(`node ${SUITES}/provider.mjs ${driver.domid}`, { timeout: 240 });
    return output.trim().split('\n').at(-1);
  }),
  ...basics,
  attachDetach(10),
  twoGuests,
]);
