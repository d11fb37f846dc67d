/** What operators do to a daemon on a bad day, on a real Xen: an image named twice, signals, a second daemon, resume. */

import { MAIN } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { CommandError, sh, until } from '../dom0/shell.mjs';
import { diskGuest } from './shared/disk-tests.mjs';
import { onWay, tap } from './shared/ways.mjs';

const failure = (promise) =>
  promise.then(
    () => undefined,
    (error) => error,
  );

const tests = [
  test('an image that a guest writes is refused to another one, by another name', async ({ way }) => {
    const holder = await diskGuest(way, 'holder');
    const other = await diskGuest(way, 'other');
    await way.daemon.sh('ln -sf /tmp/images/holder /tmp/images/second-name');
    const error = await failure(other.attach(way.disk('xvdb', 'second-name')));
    if (!(error instanceof CommandError)) throw new Error('xl attached the image of another guest');
    const said = `it is in use (xvda of domain ${holder.domid}`;
    if (!(await way.daemon.tail(60)).includes(said)) throw new Error(`the log does not say "${said}"`);
    await sh('xl block-detach other xvdb').catch(() => {});
    for (const guest of [holder, other]) await guest.sh('dd if=/dev/zero of=/dev/xvda bs=1M count=8 conv=fsync');
    await holder.shutdown();
    // What its guest has let go of is free.
    await other.attach(way.disk('xvdb', 'second-name'));
    await other.disk('xvdb');
    await other.detach('xvdb');
    await other.shutdown();
  }),
  test('signals, a reload and a second daemon disturb no guest', async ({ way }) => {
    const guest = await diskGuest(way, 'undisturbed', { fio: true });
    const job = '--filename=/dev/xvda --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=16 --size=16M';
    const verify = '--verify=crc32c --do_verify=1 --verify_fatal=1 --rate_iops=300 --number_ios=4096';
    await guest.sh(`(fio --name=v ${job} ${verify} >/tmp/fio.out 2>&1; echo $? >/tmp/fio.end) & echo started`);
    for (const signal of ['HUP', 'USR1', 'USR2', 'HUP']) await sh(`kill -${signal} ${way.daemon.pid}; sleep 0.5`);
    const second = await failure(sh(`node ${MAIN} run --type ${way.type} --control-socket /tmp/second.sock`));
    if (!/runs already \(pid \d+\)/.test(second?.output ?? '')) throw new Error(`the second daemon: ${second?.output}`);
    await sh('! (exec 3<>/dev/tcp/127.0.0.1/9229) 2>/dev/null');
    way.daemon.check();
    await guest.sh(
      'for i in $(seq 200); do test -e /tmp/fio.end && break; sleep 1; done; test "$(cat /tmp/fio.end)" = 0',
      {
        timeout: 240,
      },
    );
    await guest.shutdown();
  }),
  test('a discard of more than 2 GiB succeeds', async ({ way }) => {
    await way.image('large', 5 * 1024);
    const guest = await diskGuest(way, 'discarding');
    await guest.attach(way.disk('xvdb', 'large'));
    await guest.disk('xvdb');
    await guest.sh('dd if=/dev/urandom of=/dev/xvdb bs=1M count=8 seek=4000 conv=fsync');
    await guest.sh('blkdiscard /dev/xvdb');
    await guest.sh('dd if=/dev/xvdb bs=1M skip=4000 count=8 iflag=direct | tr -d "\\0" | wc -c | grep -qx 0');
    await guest.detach('xvdb');
    await guest.shutdown();
  }),
  test('a full storage stops a disk, and the guest goes on after a resume', async ({ way }) => {
    await way.daemon.sh(
      'mkdir -p /tmp/small && mount -t tmpfs -o size=8m none /tmp/small && truncate -s 32M /tmp/small/full',
    );
    await way.restartDaemon('--on-error stop-on-enospc');
    try {
      const guest = await diskGuest(way, 'filling');
      await guest.attach(way.disk('xvdb', '../small/full'));
      await guest.disk('xvdb');
      await guest.sh(
        '(dd if=/dev/urandom of=/tmp/data bs=1M count=16; dd if=/tmp/data of=/dev/xvdb bs=1M conv=fsync; echo $? >/tmp/dd.end) >/dev/null 2>&1 & echo started',
      );
      await until('the disk stops', async () => (await way.daemon.tail(200)).includes('stopped by a storage error'));
      await guest.sh('sleep 2; test ! -e /tmp/dd.end');
      await way.daemon.sh('mount -o remount,size=64m /tmp/small');
      await sh(`node ${MAIN} resume vbd3-${guest.domid}-51728`);
      await guest.sh(
        'for i in $(seq 60); do test -e /tmp/dd.end && break; sleep 1; done; test "$(cat /tmp/dd.end)" = 0',
        {
          timeout: 90,
        },
      );
      await guest.sh('dd if=/dev/xvdb bs=1M count=16 iflag=direct | cmp - /tmp/data');
      await guest.detach('xvdb');
      await guest.shutdown();
      await way.checkLeaks();
    } finally {
      await way.restartDaemon();
      await way.daemon.sh('umount /tmp/small');
    }
  }),
];

group('bad days', { ...onWay(tap), xen: ['4.20'] }, tests);
