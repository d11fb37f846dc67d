/** Guests that restart, crash, move and vanish; a daemon that restarts under them. */
import { listDomains } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { CommandError, sh, until } from '../dom0/shell.mjs';
import { XenstoreProxy } from '../dom0/xenstore-proxy.mjs';
import { diskGuest, twoGuests } from './shared/disk-tests.mjs';
import { onWay, phy, tap } from './shared/ways.mjs';

const LOAD =
  'fio --name=load --filename=/dev/xvda --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=32 --size=48M';
/** A load that proves at its end that nothing was lost. Its result is in /tmp/load.end. */
const VERIFIED = `${LOAD} --rate_iops=200 --verify=crc32c --do_verify=1 --verify_fatal=1 --loops=1 --number_ios=6000`;

const startLoad = (guest, load) => guest.sh(`(${load} >/tmp/load.out 2>&1; echo $? >/tmp/load.end) & echo started`);

async function endOfLoad(guest, { timeout = 240 } = {}) {
  const wait = `for i in $(seq ${timeout}); do test -e /tmp/load.end && break; sleep 1; done`;
  await guest.sh(`${wait}; cat /tmp/load.out | tail -20; test "$(cat /tmp/load.end)" = 0`, { timeout: timeout + 30 });
}

const migrates = test(
  'a guest is migrated to its own host under load',
  async ({ way }) => {
    // Debian's Xen does not note which pages a PV guest writes.
    const guest = await diskGuest(way, 'moved', { fio: true, type: 'pvh' });
    await startLoad(guest, VERIFIED);
    await guest.sh('sleep 3; test ! -e /tmp/load.end');
    await guest.migrate();
    await endOfLoad(guest);
    await guest.shutdown();
  },
  { minutes: 10 },
);

const tests = [
  test('a guest restarts', async ({ way }) => {
    const guest = await diskGuest(way, 'restart', { lines: ['on_reboot="restart"'] });
    await guest.sh('echo kept | dd of=/dev/xvda conv=fsync');
    for (let i = 0; i < 2; i++) {
      guest.console.post('reboot -f');
      await guest.restarted();
      await guest.disk('xvda');
      await guest.sh('test "$(head -c 4 /dev/xvda)" = kept');
    }
    await guest.shutdown();
  }),
  test('a guest crashes', async ({ way }) => {
    const guest = await diskGuest(way, 'crash', { lines: ['on_crash="restart"'] });
    await guest.sh('echo kept | dd of=/dev/xvda conv=fsync');
    guest.console.post('(dd if=/dev/xvda of=/dev/null bs=64k iflag=direct &); echo c >/proc/sysrq-trigger');
    await guest.restarted();
    await guest.disk('xvda');
    await guest.sh('test "$(head -c 4 /dev/xvda)" = kept');
    await guest.shutdown();
  }),
  test('a guest is destroyed under load', async ({ way }) => {
    for (let i = 0; i < 3; i++) {
      const guest = await diskGuest(way, 'doomed', { fio: true });
      await startLoad(guest, `${LOAD} --time_based --runtime=3600`);
      await guest.sh('sleep 3; test ! -e /tmp/load.end');
      await guest.destroy();
      await guest.gone();
    }
  }),
  test('a guest is saved and restored under load', async ({ way }) => {
    const guest = await diskGuest(way, 'saved', { fio: true });
    await startLoad(guest, VERIFIED);
    await guest.sh('sleep 3; test ! -e /tmp/load.end');
    await guest.save('/tmp/saved');
    await guest.restore('/tmp/saved');
    await sh('rm /tmp/saved');
    await endOfLoad(guest);
    await guest.shutdown();
  }),
  migrates,
  twoGuests,
  test('a disk of a paused guest is detached', async ({ way }) => {
    await way.image('paused', 16);
    const guest = await diskGuest(way, 'paused');
    await guest.shutdown();
    await sh('xl create -p /tmp/logs/paused.cfg');
    await sh('xl block-detach paused xvda', { timeout: 30 });
    await sh('xl destroy paused');
    await until('end of the paused guest', async () => !(await listDomains()).some(({ name }) => name === 'paused'));
  }),
  test('an image that is missing fails the attach and nothing else', async ({ way }) => {
    const guest = await diskGuest(way, 'whole');
    const error = await guest.attach(way.disk('xvdb', 'none')).then(
      () => undefined,
      (failure) => failure,
    );
    if (!(error instanceof CommandError)) throw new Error('xl attached an image that is not there');
    await sh(`xl block-detach whole xvdb`).catch(() => {});
    await guest.sh('dd if=/dev/zero of=/dev/xvda bs=1M count=8 conv=fsync');
    await guest.shutdown();
  }),
  test('xenstored goes away and comes back under load', async ({ way }) => {
    const socket = '/tmp/xenstored-proxy';
    const proxy = await XenstoreProxy.listen(socket);
    await way.daemon.stop();
    way.daemon.env = { XENSTORED_PATH: socket };
    try {
      await way.daemon.start();
      const guest = await diskGuest(way, 'cut', { fio: true });
      await way.image('later', 16);
      await startLoad(guest, VERIFIED);
      if (proxy.cut() === 0) throw new Error('xen-blockd does not use the socket that XENSTORED_PATH names');
      await guest.sh('sleep 5');
      // A service manager starts it again on this code.
      const again = way.daemon.child.exitCode === 69;
      if (again) await way.daemon.start();
      way.daemon.check();
      await guest.attach(way.disk('xvdb', 'later'));
      await guest.disk('xvdb');
      await guest.detach('xvdb');
      await endOfLoad(guest);
      await guest.shutdown();
      return again ? 'ended with 69 and was started again' : 'connected again';
    } finally {
      way.daemon.env = {};
      await way.daemon.stop();
      proxy.close();
      await way.daemon.start();
      await way.rest();
    }
  }),
];

group('robustness', { ...onWay(tap), xen: ['4.20'] }, tests);
const onOlder = ['a guest restarts', 'a guest is saved', 'a guest is destroyed'];
group(
  'robustness',
  { ...onWay(phy), xen: ['4.17'] },
  tests.filter(({ name }) => onOlder.some((part) => name.startsWith(part))),
);
