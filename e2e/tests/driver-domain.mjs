/** Way A: xen-blockd in an unprivileged storage driver domain. */
import { Domain } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { attachDetach, basics } from './disk-tests.mjs';
import { driverDomain } from './ways.mjs';

group(
  'A driver domain',
  {
    async setup(context) {
      context.way = driverDomain();
      await context.way.start();
      context.keep = context.way.keep;
    },
    teardown: ({ way }) => way.stop(),
    after: ({ way }) => way.checkLeaks(),
  },
  [
    test('passes the provider suite', async ({ way: { driver } }) => {
      const output = await driver.sh(`node /lab/e2e/dom0/provider-suite.mjs ${driver.domid}`, { timeout: 240 });
      return output.trim().split('\n').at(-1);
    }),
    ...basics,
    attachDetach(10),
    test('two guests at once', async ({ way }) => {
      await way.image('one', 64);
      await way.image('two', 64);
      const one = await Domain.guest('one', { fio: true, disks: [way.disk('xvda', 'one')] });
      const two = await Domain.guest('two', { fio: true, disks: [way.disk('xvda', 'two')] });
      const { verifyFio } = await import('./work.mjs');
      await Promise.all(
        [one, two].map(async (guest) => {
          await guest.disk('xvda');
          await verifyFio(guest, 'xvda');
        }),
      );
      await Promise.all([one.shutdown(), two.shutdown()]);
    }),
  ],
);
