/** The daemon is killed again and again under guests that verify what they wrote; nothing may be lost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskByHand } from '../dom0/by-hand.mjs';
import { Domain } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { xsRead } from '../dom0/xenstore.mjs';
import { BusyGuest } from './kills/busy-guest.mjs';
import { Killer } from './kills/killer.mjs';
import { makeSlowGroup, SLOW_GROUP, ThrottledDevice } from './kills/throttled-device.mjs';
import { onWay, tap } from './shared/ways.mjs';
import { checkQcow2 } from './shared/work.mjs';

const SIZE = 64;
const IMAGES = '/tmp/images';
/** For so long the storage hangs before a kill: what comes in meanwhile is in flight then. */
const HANGING_MS = 1000;
/** Planned restarts after the kills: one at least, and one more for so many kills. */
const PLANNED_MIN = 1;
const KILLS_A_PLANNED = 10;

/** A guest with a throttled block device as xvda and a qcow2 image as xvdb. */
async function guestOfTwoDisks(way, name, lines) {
  const device = await ThrottledDevice.over(`${IMAGES}/${name}.raw`, SIZE);
  const guest = await Domain.guest(name, { disks: [way.disk('xvda', '', { target: device.path })], fio: true, lines });
  const image = `${IMAGES}/${name}.qcow2`;
  await way.daemon.sh(`qemu-img create -q -f qcow2 ${image} ${SIZE}M`);
  const byHand = await DiskByHand.attach(guest, 'xvdb', `qcow2:${image}`);
  for (const disk of ['xvda', 'xvdb']) await guest.disk(disk);
  return { guest, device, byHand, image };
}

async function checkConnection({ domid }, { queues }) {
  for (const devid of [51712, 51728]) {
    const frontend = `/local/domain/${domid}/device/vbd/${devid}`;
    const order = (await xsRead(`${frontend}/ring-page-order`)) ?? '0';
    const found = (await xsRead(`${frontend}/multi-queue-num-queues`)) ?? '1';
    if (order !== '0' || found !== String(queues)) throw new Error(`${frontend}: ring order ${order}, ${found} queues`);
  }
}

async function killUnderLoad({ way }) {
  const small = await guestOfTwoDisks(way, 'small');
  const wide = await guestOfTwoDisks(way, 'wide', ['maxvcpus=4', 'vcpus=4']);
  await checkConnection(small.guest, { queues: 1 });
  await checkConnection(wide.guest, { queues: 4 });
  const busy = [
    new BusyGuest(small.guest, { plain: 'xvda', tree: 'xvdb' }),
    new BusyGuest(wide.guest, { plain: 'xvdb', tree: 'xvda' }),
  ];
  for (const guest of busy) await guest.start();
  const killer = new Killer(way.daemon, { disks: 4, seed: run.seed });
  const devices = [small.device, wide.device];
  // The third is of a young life, which has no time for it.
  const isHanging = (turn) => turn % 3 !== 2;
  await killer.run(run.kills, {
    async beforeKill(turn) {
      if (!isHanging(turn)) return;
      for (const device of devices) await device.hang();
      await sleep(HANGING_MS);
    },
    async afterStart(turn) {
      if (isHanging(turn)) for (const device of devices) await device.slow();
      // The guests wait for their disks: they have time to answer.
      await Promise.all(busy.map((guest) => guest.check()));
    },
  });
  const killed = await pausesOf(busy, killer.restarts);
  await Promise.all(busy.map((guest) => guest.startProbe()));
  const stops = PLANNED_MIN + Math.floor(run.kills / KILLS_A_PLANNED);
  await killer.restart(stops);
  const planned = await pausesOf(busy, stops);
  await Promise.all(busy.map((guest) => guest.finish()));
  const note = await summary(killer, busy, { killed, planned });
  for (const { guest, device, byHand, image } of [small, wide]) {
    await guest.shutdown();
    await byHand.remove();
    await device.remove();
    await checkQcow2(image);
  }
  if (killer.recovering * 2 <= killer.restarts) throw new Error(`most kills hit nothing: ${note}`);
  return note;
}

/** The probes' longest reads on the throttled device and on the qcow2 image: one for each restart. */
async function pausesOf(busy, restarts) {
  const reads = await Promise.all(busy.map((guest) => guest.endProbe()));
  const [device, qcow2] = reads.map((times) => times.toSorted((a, b) => a - b).slice(-restarts));
  return { device, qcow2 };
}

async function summary(killer, busy, { killed, planned }) {
  const { kills, early, restarts, recovering, recovered } = killer;
  const passes = await Promise.all(busy.map((guest) => guest.passes()));
  const longest = ({ device, qcow2 }) => `throttled device ${percentiles(device)}, qcow2 ${percentiles(qcow2)}`;
  return [
    `${kills} kills (${early} within half a second), ${recovering} of ${restarts} restarts recovered ${recovered} requests`,
    `longest read of each restart, killed: ${longest(killed)}; planned: ${longest(planned)}`,
    `passes verified: ${passes.flat().join(', ')}; seed ${run.seed}`,
  ].join('; ');
}

function percentiles(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  return sorted.length === 0 ? 'none' : `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms of ${sorted.length}`;
}

const way = onWay(tap);

/** The daemon's storage is slow, for this group. */
async function setup(context) {
  await makeSlowGroup();
  await way.setup(context);
  await context.way.daemon.stop();
  context.way.daemon.group = SLOW_GROUP;
  await context.way.daemon.start();
  await context.way.rest();
}

group('kills', { ...way, setup, xen: ['4.20'] }, [
  test('two guests verify what they wrote while the daemon is killed again and again', killUnderLoad, {
    minutes: 25 + run.kills,
  }),
]);
