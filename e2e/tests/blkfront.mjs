/** What Linux's blkfront makes of what we offer: each combination, and that its data is right in it. */
import { Domain } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { xsRead } from '../dom0/xenstore.mjs';
import { onWay, phy, tap } from './shared/ways.mjs';

const MIB = 1024 * 1024;
const SIZE = 64;
const MOST_SEGMENTS = 256;
/** With persistent grants blkfront takes a page for each segment of each slot, in advance: 1 GiB with the most. */
const MOST_PERSISTENT_SEGMENTS = 32;

/** Parameters of the driver, and what its disk must then be. */
function combinations(persistent) {
  const most = persistent ? MOST_PERSISTENT_SEGMENTS : MOST_SEGMENTS;
  return [0, 4].flatMap((order) =>
    [1, 2].flatMap((queues) => [0, most].map((segments) => ({ order, queues, segments }))),
  );
}

/** Half of them: each value of one parameter meets each of the other two. */
function pairs(all) {
  return all.filter(({ order, queues, segments }) => [order > 0, queues > 1, segments > 0].filter(Boolean).length % 2);
}

/** A guest of two processors whose driver is loaded anew for each combination. */
async function combinationGuest(way, name) {
  await way.image(name, SIZE);
  const guest = await Domain.guest(name, {
    disks: [way.disk('xvda', name)],
    fio: true,
    lines: ['maxvcpus=2', 'vcpus=2'],
  });
  await guest.disk('xvda');
  return guest;
}

async function loadDriver(guest, disk, { order, queues, segments }) {
  const parameters = `max_ring_page_order=${order} max_queues=${queues} max_indirect_segments=${segments}`;
  await guest.detach('xvda');
  await guest.disk('xvda', { gone: true });
  await guest.sh(`rmmod xen_blkfront && dmesg -c >/dev/null && insmod /mods/*blkfront* ${parameters}`);
  await guest.attach(disk);
  await guest.disk('xvda');
  return (await guest.sh('dmesg | grep "blkfront: xvda"')).trim();
}

async function checkNegotiated(guest, driver, { order, queues, segments }, persistent) {
  const frontend = `/local/domain/${guest.domid}/device/vbd/51712`;
  const found = {
    order: Number((await xsRead(`${frontend}/ring-page-order`)) ?? 0),
    queues: Number((await xsRead(`${frontend}/multi-queue-num-queues`)) ?? 1),
    'flush diskcache': setting(driver, 'flush diskcache'),
    'persistent grants': setting(driver, 'persistent grants'),
    'indirect descriptors': setting(driver, 'indirect descriptors'),
    discard: Number(await guest.sh('cat /sys/block/xvda/queue/discard_max_bytes')) > 0,
  };
  const wanted = {
    order,
    queues,
    'flush diskcache': 'enabled',
    'persistent grants': persistent ? 'enabled' : 'disabled',
    'indirect descriptors': segments ? 'enabled' : 'disabled',
    discard: true,
  };
  for (const [name, value] of Object.entries(wanted)) {
    if (found[name] !== value) throw new Error(`${name}: ${found[name]}, expected ${value}; the driver: ${driver}`);
  }
  if (!segments) return;
  const most = Number(await guest.sh('cat /sys/block/xvda/queue/max_segments'));
  if (most !== segments) throw new Error(`max_segments ${most}, expected ${segments}`);
}

const setting = (driver, name) => new RegExp(`${name}: (\\w+)`).exec(driver)?.[1];

/** fio proves what it wrote, in small and in large requests; a discarded range reads as zeroes. */
async function useDisk(guest) {
  const job = '--filename=/dev/xvda --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1';
  await guest.sh(
    [
      `fio --name=small ${job} --rw=randwrite --bsrange=4k-64k --size=8M --iodepth=32 --output-format=terse`,
      `fio --name=large ${job} --rw=write --bs=1M --offset=8M --size=16M --iodepth=4 --output-format=terse`,
      `blkdiscard -o ${8 * MIB} -l ${8 * MIB} /dev/xvda`,
      'dd if=/dev/xvda bs=1M skip=8 count=8 iflag=direct | tr -d "\\0" | wc -c | grep -qx 0',
    ].join(' && '),
    { timeout: 300 },
  );
}

function negotiates(what, transfer, choose = (all) => all) {
  return test(`${what}, with ${transfer}`, async ({ way }) => {
    const persistent = transfer === 'persistent';
    const all = choose(combinations(persistent));
    await way.restartDaemon(`--transfer ${transfer}`);
    try {
      const guest = await combinationGuest(way, transfer);
      for (const combination of all) {
        const driver = await loadDriver(guest, way.disk('xvda', transfer), combination);
        await checkNegotiated(guest, driver, combination, persistent);
        await useDisk(guest);
      }
      await guest.shutdown();
      await way.checkLeaks();
    } finally {
      await way.restartDaemon();
    }
    return `${all.length} combinations`;
  });
}

/** KiB of an image that the file system has blocks for. */
async function allocated(way, name) {
  return Number((await way.daemon.sh(`du -k /tmp/images/${name} | cut -f1`)).trim());
}

const [these, choose] = run.long ? ['every combination', undefined] : ['every pair', pairs];
const tests = [
  negotiates(`${these} of ring size, queues and segments`, 'copy', choose),
  negotiates(`${these} of ring size, queues and segments`, 'persistent', choose),
  // The frontend cannot tell it from copying.
  negotiates('every pair of ring size, queues and segments', 'map', pairs),
  test('blkfront discards', async ({ way }) => {
    await way.image('discard', SIZE);
    const guest = await Domain.guest('discard', { disks: [way.disk('xvda', 'discard')] });
    await guest.disk('xvda');
    await guest.sh('dd if=/dev/urandom of=/dev/xvda bs=1M count=32 conv=fsync');
    const before = await allocated(way, 'discard');
    await guest.sh('blkdiscard -o 0 -l 16777216 /dev/xvda');
    await guest.sh('dd if=/dev/xvda bs=1M count=16 iflag=direct | tr -d "\\0" | wc -c | grep -qx 0');
    const after = await allocated(way, 'discard');
    if (after > before - 12 * 1024) throw new Error(`allocated ${before} KiB, after the discard ${after} KiB`);
    await guest.shutdown();
  }),
];

group('blkfront', { ...onWay(tap), xen: ['4.20'] }, tests);
group('blkfront', { ...onWay(phy), xen: ['4.17'] }, [
  negotiates('every pair of ring size, queues and segments', 'persistent', pairs),
]);
