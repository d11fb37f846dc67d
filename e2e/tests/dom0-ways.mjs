/** Ways B and C: xen-blockd in dom0, with its hotplug script. */
import { group } from '../dom0/registry.mjs';
import { attachDetach, basics } from './disk-tests.mjs';
import { phy, tap } from './ways.mjs';

const inDom0 = (way) => ({
  async setup(context) {
    context.way = way();
    await context.way.start();
  },
  teardown: ({ way }) => way.stop(),
  after: ({ way }) => way.checkLeaks(),
});

group('B dom0 tap', { ...inDom0(tap), xen: ['4.20'] }, [...basics, attachDetach(50)]);
group('C dom0 phy', inDom0(phy), [...basics, attachDetach(5)]);
