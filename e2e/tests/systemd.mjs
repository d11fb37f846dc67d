/** The package for Debian and its unit, in a dom0 that systemd started: installed, hardened, killed and upgraded under load, purged. */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskByHand } from '../dom0/by-hand.mjs';
import { Domain } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { sh } from '../dom0/shell.mjs';
import { BusyGuest } from './kills/busy-guest.mjs';
import { checkQcow2, verifyFio } from './shared/work.mjs';
import { ImageKinds } from './systemd/image-kinds.mjs';
import { HELPER, nothingIsLeft } from './systemd/package.mjs';
import { Unit } from './systemd/unit.mjs';

const PACKAGE = '/lab/xen-blockd.deb';
const IMAGES = '/tmp/images';
const EXAMPLE = '/usr/share/doc/xen-blockd/examples/hardened.conf';
const DROP_IN = '/etc/systemd/system/xen-blockd.service.d/hardened.conf';
const SIZE = 64;
/** A life under load, between two ends. */
const LIFE_MS = 2500;
/** Limits of what a connection may be: one that is there stays as it is, whatever a new configuration says. */
const LARGE = ['max-queues = 4', 'max-ring-page-order = 4'];
const SMALL = ['max-queues = 1', 'max-ring-page-order = 0', 'max-indirect-segments = 32'];
const unit = new Unit('xen-blockd.service');

function configure(limits) {
  writeFileSync('/etc/xen-blockd.toml', ['types = ["vbd3"]', 'log-level = "debug"', ...limits, ''].join('\n'));
}

async function install() {
  await sh(`apt-get install -y ${PACKAGE}`, { timeout: 400 });
  if (await unit.isActive()) throw new Error('a first installation has started the daemon');
  configure(LARGE);
  // It gives each part ten seconds, which a busy machine may need more than.
  await sh('for i in 1 2 3 4 5; do xen-blockd check && exit 0; done; exit 1', { timeout: 240 });
  await sh('systemctl enable --now xen-blockd', { timeout: 120 });
  await unit.check();
}

async function limits() {
  const wanted = {
    LimitMEMLOCK: 'infinity',
    LimitCORE: '0',
    LimitNOFILE: '65536',
    OOMScoreAdjust: '-900',
    KillMode: 'process',
    Restart: 'always',
    NoNewPrivileges: 'yes',
    DevicePolicy: 'closed',
    PrivateMounts: 'yes',
    ProtectSystem: 'full',
    RuntimeDirectoryPreserve: 'yes',
    WatchdogUSec: '1min',
    WatchdogSignal: '9',
  };
  const found = await unit.show(...Object.keys(wanted));
  const wrong = Object.entries(wanted).filter(([name, value]) => found[name] !== value);
  if (wrong.length > 0)
    throw new Error(wrong.map(([name, value]) => `${name}=${found[name]}, not ${value}`).join('; '));
  const pid = await unit.pid();
  const inForce = [
    ['core file size', '0 +0', `/proc/${pid}/limits`],
    ['locked memory', 'unlimited +unlimited', `/proc/${pid}/limits`],
    ['NoNewPrivs:', '1', `/proc/${pid}/status`],
    ['xen-blockd', '', `/proc/${pid}/comm`],
    ['Seccomp:', '2', `/proc/${pid}/status`],
    // DAC_OVERRIDE, KILL, SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_ADMIN.
    ['CapBnd:', '00000000002401e2', `/proc/${pid}/status`],
    ['', '-900', `/proc/${pid}/oom_score_adj`],
  ];
  for (const [name, value, file] of inForce)
    await sh(`grep -E -- '${name}\\s*${value}' ${file} || { cat ${file}; exit 1; }`);
  return exposedAtMost(3.9);
}

/** Errors: more of the machine is open to the unit. */
async function exposedAtMost(most) {
  const exposure = await unit.exposure();
  if (!(exposure <= most)) throw new Error(`an exposure of ${exposure}, not of at most ${most}`);
  return `exposure ${exposure}`;
}

/** A guest verifies all kinds of images at once, with a storage helper among them that is caged. */
async function servesAll(folder, { blockDevices }) {
  const kinds = await ImageKinds.make(folder, { blockDevices });
  const domain = await Domain.guest('kinds', { disks: [kinds.rawLine('xvda')], fio: true });
  const byHand = [];
  for (const [vdev, params] of kinds.others()) byHand.push(await DiskByHand.attach(domain, vdev, params));
  for (const vdev of kinds.vdevs()) {
    await domain.disk(vdev);
    await verifyFio(domain, vdev, { size: '8M' });
  }
  const helper = await sh(`pgrep -f '[i]dentity":"${folder}/kinds.qcow2'`);
  for (const pid of helper.trim().split('\n')) {
    await sh(`grep -qE 'CapEff:\\s+0+[02]?$' /proc/${pid}/status`);
    await sh(`grep -qE 'Seccomp:\\s+2$' /proc/${pid}/status`);
    // Between the daemon and the rest.
    await sh(`grep -qx -- -500 /proc/${pid}/oom_score_adj`);
  }
  if (await unit.said('not caged')) throw new Error('a storage helper was not caged');
  await domain.shutdown();
  for (const disk of byHand) await disk.remove();
  await kinds.remove();
  await checkQcow2(`${folder}/kinds.qcow2`);
  await sh(`rm -rf ${folder}`);
}

async function servesHardened() {
  // A small Debian installs no examples.
  await sh(`dpkg-deb -x ${PACKAGE} /tmp/package && install -D -m 644 /tmp/package${EXAMPLE} ${DROP_IN}`);
  await sh('systemctl daemon-reload && systemctl restart xen-blockd', { timeout: 120 });
  await unit.check();
  const exposure = await exposedAtMost(2);
  await servesAll('/var/lib/xen-blockd/kinds', { blockDevices: false });
  await sh(`rm -r $(dirname ${DROP_IN}) && systemctl daemon-reload && systemctl restart xen-blockd`, { timeout: 120 });
  await unit.check();
  await sh('rm -r /var/lib/xen-blockd');
  return exposure;
}

/** What ends a life, in turn, and whether the storage helper lives on: a daemon that stops ends its helper itself. */
const ENDS = [
  { name: 'killed with its helper', command: 'systemctl kill -s KILL xen-blockd', counts: true },
  { name: 'restarted with smaller limits', command: 'systemctl restart xen-blockd', limits: SMALL },
  {
    name: 'killed alone',
    command: 'systemctl kill -s KILL --kill-whom=main xen-blockd',
    counts: true,
    helperLives: true,
  },
  { name: 'upgraded, with the limits as before', command: `dpkg -i ${PACKAGE}`, limits: LARGE },
  // As threads that are stuck: the watchdog ends it after a minute.
  {
    name: 'stopped',
    command: 'systemctl kill -s STOP --kill-whom=main xen-blockd',
    counts: true,
    helperLives: true,
  },
];

async function endsInTurn() {
  // With queues enough to have more than one.
  const guest = await guestOfTwoDisks({ vcpus: 2 });
  const before = await connections();
  if (!before.some(({ queues }) => queues === 2)) throw new Error(`connections are small: ${JSON.stringify(before)}`);
  const busy = new BusyGuest(guest.domain, { plain: 'xvda', tree: 'xvdb' });
  await busy.start();
  let counted = 0;
  for (let turn = 0; turn < Math.max(run.kills, ENDS.length); turn++) {
    const end = ENDS[turn % ENDS.length];
    await sleep(LIFE_MS);
    // The guest waits for its disks meanwhile: it has time to answer.
    if (end.limits) configure(end.limits);
    await Promise.all([endOnce(end), busy.check()]);
    if (end.counts) counted++;
  }
  configure(LARGE);
  await sameConnections(before);
  await busy.endProbe();
  await busy.finish();
  await guest.domain.shutdown();
  await guest.byHand.remove();
  await checkQcow2(`${IMAGES}/unit.qcow2`);
  const { services, recovering, recovered } = await unit.recovered();
  if (recovering === 0) throw new Error(`none of ${services} services recovered a request`);
  return `${counted} kills, ${recovering} of ${services} services of a disk recovered ${recovered} requests`;
}

/** What was negotiated with each disk's frontend. */
async function connections() {
  const disks = JSON.parse(await sh('xen-blockd list --json', { timeout: 120 }));
  return disks.map(({ device, queues, ringPages }) => ({ device, queues, ringPages }));
}

/** Errors: a disk has another connection than before, once it is served. */
async function sameConnections(before) {
  const wanted = JSON.stringify(before);
  for (let second = 0; second < 60; second++) {
    if (JSON.stringify(await connections()) === wanted) return;
    await sleep(1000);
  }
  throw new Error(`connections were ${wanted}, and are ${JSON.stringify(await connections())}`);
}

async function endOnce({ name, command, counts = false, helperLives = false }) {
  const before = await unit.pid();
  const restarts = await unit.restarts();
  const helper = await helperPid();
  await sh(command, { timeout: 300 });
  await unit.servesAs((pid) => pid !== before);
  // What an operator starts is counted anew.
  const counted = (await unit.restarts()) - restarts;
  if (counts && counted !== 1) throw new Error(`${name}: systemd counts ${counted} restarts, not one`);
  // What systemd was told: each disk that was there is served, or held for a moment.
  const disks = JSON.parse(await sh('xen-blockd list --json', { timeout: 120 }));
  const unserved = disks.filter(({ connected, held }) => !connected && held === undefined);
  if (disks.length !== 2 || unserved.length > 0) throw new Error(`${name}: ready with ${JSON.stringify(disks)}`);
  if (!helperLives || (await helperPid()) === helper) return;
  // On a busy machine it may not have answered the next daemon in time, which then ends it.
  if (!(await unit.said(`an earlier process is killed.*pid=${helper}`))) {
    throw new Error(`${name}: the storage helper ${helper} is gone`);
  }
}

async function helperPid() {
  return (await sh(`pgrep -x ${HELPER} || true`)).trim();
}

async function guestOfTwoDisks({ vcpus = 1 } = {}) {
  await sh(`mkdir -p ${IMAGES} && truncate -s ${SIZE}M ${IMAGES}/unit.raw`);
  await sh(`qemu-img create -q -f qcow2 ${IMAGES}/unit.qcow2 ${SIZE}M`);
  const raw = `vdev=xvda,format=raw,access=rw,backendtype=tap,script=block-xen-blockd,target=${IMAGES}/unit.raw`;
  const domain = await Domain.guest('unit', { disks: [raw], fio: true, vcpus });
  const byHand = await DiskByHand.attach(domain, 'xvdb', `qcow2:${IMAGES}/unit.qcow2`);
  for (const disk of ['xvda', 'xvdb']) await domain.disk(disk);
  return { domain, byHand };
}

/** What forbids a package's own restart, as administrators do it. npm never does one. */
const NO_RESTARTS = '/usr/sbin/policy-rc.d';
const NEWER = '/lab/newer.deb';
const RELEASE = 'xen-blockd 99.0.0';

async function upgradesUnderLoad() {
  await sh(`printf '#!/bin/sh\\nexit 101\\n' >${NO_RESTARTS} && chmod 755 ${NO_RESTARTS}`);
  try {
    return await upgradesWithoutRestart();
  } finally {
    await sh(`rm ${NO_RESTARTS}`);
  }
}

async function upgradesWithoutRestart() {
  const guest = await guestOfTwoDisks();
  const busy = new BusyGuest(guest.domain, { plain: 'xvda', tree: 'xvdb' });
  await busy.start();
  const before = await unit.pid();
  await sh(`dpkg -i ${NEWER}`, { timeout: 300 });
  await upgradeSays('--check', 0, `can be restarted as ${RELEASE}`);
  // What would keep the next daemon from serving, or make it another one than the operator means.
  await sh('cp /etc/xen-blockd.toml /tmp/kept.toml && echo "threds = 0" >>/etc/xen-blockd.toml');
  await upgradeSays('', 1, 'did you mean threads');
  await sh('mv /tmp/kept.toml /etc/xen-blockd.toml');
  await sh(`mkdir -p $(dirname ${DROP_IN}) && printf '[Service]\\nNice=0\\n' >${DROP_IN}`);
  await upgradeSays('', 1, 'has changed on disk: systemctl daemon-reload');
  await sh(`rm -r $(dirname ${DROP_IN}) && systemctl daemon-reload`);
  if ((await unit.pid()) !== before) throw new Error('an upgrade that was refused has restarted the daemon');
  await busy.check();
  const report = JSON.parse(await sh('xen-blockd upgrade --json', { timeout: 300 }));
  const { from, to, restarted, served, missing, pause } = report;
  const isRight =
    restarted && to === RELEASE && from !== to && served.length === 2 && missing.length === 0 && pause > 0;
  if (!isRight || (await unit.pid()) === before) throw new Error(JSON.stringify(report));
  await upgradeSays('', 0, `${RELEASE} runs already`);
  await busy.check();
  await busy.endProbe();
  await busy.finish();
  await guest.domain.shutdown();
  await guest.byHand.remove();
  await checkQcow2(`${IMAGES}/unit.qcow2`);
  return `a pause of ${pause} s`;
}

/** Errors: `xen-blockd upgrade` ends with another code, or says something else. */
async function upgradeSays(options, code, text) {
  const ended = `code=$?; [ $code = ${code} ] || { echo "it ended with $code"; exit 1; }`;
  const said = await sh(`xen-blockd upgrade ${options}; ${ended}`, { timeout: 300 });
  if (!said.includes(text)) throw new Error(`upgrade ${options} does not say "${text}" but:\n${said}`);
}

async function purge() {
  await sh('apt-get purge -y xen-blockd', { timeout: 300 });
  await nothingIsLeft();
}

group('systemd', { inOrder: true }, [
  test('the package is installed, starts nothing by itself, and its unit is ready', install, { minutes: 12 }),
  test('the limits of the unit are in force, and its exposure is what is promised', limits),
  test(
    'raw, block, qcow2 and NBD are served under the unit',
    () => servesAll(`${IMAGES}/kinds`, { blockDevices: true }),
    { minutes: 8 },
  ),
  test('raw, qcow2 and NBD are served under the hardened unit', servesHardened, { minutes: 8 }),
  test('a guest verifies what it wrote over kills, restarts and upgrades in turn', endsInTurn, {
    minutes: 16 + run.kills,
  }),
  test(
    'xen-blockd upgrade replaces a daemon under load, and refuses while something stands against it',
    upgradesUnderLoad,
    {
      minutes: 12,
    },
  ),
  test('a purge leaves nothing', purge, { minutes: 8 }),
]);
