/** Ways B and C: xen-blockd in dom0, with its hotplug script. */
import { group } from '../dom0/registry.mjs';
import { attachDetach, basics, namedFormat } from './shared/disk-tests.mjs';
import { onWay, phy, tap } from './shared/ways.mjs';

group('B dom0 tap', { ...onWay(tap), xen: ['4.20'] }, [...basics, namedFormat, attachDetach(25)]);
group('C dom0 phy', onWay(phy), [...basics, namedFormat, attachDetach(5)]);
