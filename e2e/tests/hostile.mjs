/** A guest that misbehaves on its ring and in xenstore, beside one that works. */
import { Domain, withoutBlkback } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { diskGuest } from './shared/disk-tests.mjs';
import { onWay, tap } from './shared/ways.mjs';

const PROGRAM = '/lab/e2e/tests/hostile/hostile-frontend.mjs';
const VDEV = 'xvdc';
const QUIET_SECONDS = 10;
const HOSTILE_SECONDS = 40;
/** What it does last takes as long as it takes. */
const END_SECONDS = 120;
/** The neighbour is not asked for all that the emulated processor can do: what is tested is its turn, not the processor's. */
const RATE = 40;
/** Of what it has beside a guest that does nothing. */
const LEAST_SHARE = 0.8;

/** Writes at the rate for so long, then reads and compares all of it. Resolves with what it wrote in a second. */
async function verifiedIops(guest, seconds) {
  const job = '--ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=4 --size=16M';
  const limits = `--rate_iops=${RATE} --time_based --runtime=${seconds}`;
  const verify = '--verify=crc32c --do_verify=1 --verify_fatal=1';
  const fio = `fio --name=neighbour --filename=/dev/xvda ${job} ${limits} ${verify} --output-format=json`;
  const output = await guest.sh(
    `${fio} >/tmp/fio.json 2>/tmp/fio.err || { tail -5 /tmp/fio.*; exit 1; }; cat /tmp/fio.json`,
    {
      timeout: 6 * seconds + 120,
    },
  );
  return JSON.parse(output.slice(output.indexOf('{'))).jobs[0].write.iops;
}

async function misbehaves({ way }) {
  const neighbour = await diskGuest(way, 'neighbour', { fio: true });
  await way.image('hostile', 16);
  // Half a processor at most, which it shares with the neighbour.
  const hostile = await Domain.machine('hostile', { lines: ['cpus="1"', 'cap=50'] });
  // Its kernel leaves the disk to the program.
  await hostile.sh('echo 0 >/sys/bus/xen/drivers_autoprobe');
  await hostile.attach(way.disk(VDEV, 'hostile'));
  const alone = await verifiedIops(neighbour, QUIET_SECONDS);
  const program = `node ${PROGRAM} ${VDEV} ${HOSTILE_SECONDS} ${run.seed}`;
  await hostile.sh(`(${program} >/tmp/hostile.out 2>/tmp/hostile.err; echo $? >/tmp/hostile.end) & echo started`);
  const beside = await verifiedIops(neighbour, HOSTILE_SECONDS - QUIET_SECONDS);
  const ended = `for i in $(seq ${END_SECONDS}); do test -e /tmp/hostile.end && break; sleep 1; done; grep -qx 0 /tmp/hostile.end`;
  const tell = 'tail -n 20 /tmp/hostile.err; cat /tmp/hostile.out; exit 1';
  const output = await hostile.sh(`{ ${ended}; } || { ${tell}; }; cat /tmp/hostile.out`, { timeout: 3 * END_SECONDS });
  const figures = JSON.parse(output);
  // Once more, and it is gone in the middle of it.
  await hostile.sh(`${program} >/dev/null 2>&1 & sleep 5; echo started`);
  await hostile.destroy();
  await hostile.gone();
  way.daemon.check();
  await verifiedIops(neighbour, 1);
  await neighbour.shutdown();
  const rates = `neighbour ${Math.round(alone)} a second, beside it ${Math.round(beside)}`;
  if (beside < LEAST_SHARE * alone) throw new Error(rates);
  return `${rates}; ${Object.entries(figures)
    .map(([name, { times }]) => `${name} ${times}`)
    .join(', ')}; seed ${run.seed}`;
}

const way = onWay(tap);

async function teardown(context) {
  await way.teardown(context);
  await withoutBlkback();
}

group('hostile', { ...way, teardown, xen: ['4.20'] }, [
  test('a guest that misbehaves on its ring and in xenstore disturbs no other one', misbehaves, { minutes: 12 }),
]);
