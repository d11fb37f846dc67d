/** Commands that operators look with, on a real Xen: trace under load, its file and its replay; check with faults put in. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { MAIN } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { sh } from '../dom0/shell.mjs';
import { diskGuest } from './shared/disk-tests.mjs';
import { onWay, tap } from './shared/ways.mjs';

const TRACE = '/tmp/traced.trace';
const COPY = '/tmp/replayed';
const SECTORS = 64 * 2048;
const POINTS = ['taken', 'storage', 'done', 'pushed'];
const SETTINGS = '/etc/xen-blockd.toml';
const BLACKLIST = '/etc/modprobe.d/xen-blockd.conf';

const blockd = (command) => sh(`node ${MAIN} ${command}`, { timeout: 120 });

/** Errors: it did not end with this exit code. Resolves with what it printed. */
async function endsWith(code, command) {
  return blockd(`${command}; code=$?; [ $code = ${code} ] || { echo "it ended with $code"; exit 1; }`);
}

function expectIn(text, ...expected) {
  const missing = expected.filter((part) => !(part instanceof RegExp ? part.test(text) : text.includes(part)));
  if (missing.length > 0) throw new Error(`no ${missing.join(', no ')} in:\n${text}`);
}

/** The file's requests that the storage was given. Errors: one that is not of this guest, or whose points are out of order. */
function readTrace(device) {
  const lines = readFileSync(TRACE, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const [head, end] = [lines.shift(), lines.pop()];
  if (head['xen-blockd-trace'] !== 1 || head.device !== device) throw new Error(`head: ${JSON.stringify(head)}`);
  if (end.lost !== 0 || end.lines !== lines.length) throw new Error(`${lines.length} lines: ${JSON.stringify(end)}`);
  const requests = new Map();
  for (const line of lines) {
    if (line.sector + line.sectors > SECTORS || line.status !== 'ok') throw new Error(JSON.stringify(line));
    const key = `${line.queue} ${line.request}`;
    requests.set(key, [...(requests.get(key) ?? []), line.point]);
  }
  // What was taken before the trace began, and what had no answer when it ended, lacks some.
  const whole = [...requests.values()].filter((points) => points[0] === 'taken' && points.at(-1) === 'pushed');
  const other = whole.find((points) => points.join() !== POINTS.join());
  if (other || whole.length < 50)
    throw new Error(`${lines.length} lines, ${whole.length} whole requests, one of them ${other}`);
  return lines.filter(({ point }) => point === 'storage');
}

const traced = test('a trace under load is whole, and is replayed on another image', async ({ way }) => {
  const guest = await diskGuest(way, 'traced', { fio: true });
  const job = '--filename=/dev/xvda --direct=1 --rw=randrw --bsrange=4k-32k --ioengine=libaio --iodepth=8 --size=64M';
  await guest.sh(
    `(fio --name=l ${job} --rate_iops=100 --time_based --runtime=600 >/dev/null 2>&1; true) & echo started`,
  );
  const live = await blockd('trace traced:xvda --limit 60');
  expectIn(
    live,
    /^time \(UTC\) +queue +request +point/m,
    ...POINTS.map((point) => new RegExp(` ${point} .* ok$`, 'm')),
  );
  expectIn(live, '60 lines, 0 lost; it ended: as many lines as were asked for');
  const reads = await blockd('trace traced:xvda --op read --json --limit 20 2>/dev/null');
  const others = reads
    .trim()
    .split('\n')
    .filter((line) => JSON.parse(line).op !== 'read');
  if (others.length > 0) throw new Error(`--op read shows ${others[0]}`);
  await blockd(`trace traced:xvda --write ${TRACE} --limit 1200 --seconds 60`);
  const storage = readTrace(`vbd3-${guest.domid}-51712`);
  if (statSync(TRACE).mode & 0o077) throw new Error('others may read the trace');
  expectIn(await endsWith(1, `trace traced:xvda --write ${TRACE} --seconds 1`), 'it is there already');
  expectIn(await endsWith(1, `trace replay ${TRACE} /tmp/images/traced --overwrite --fast`), `in use`);
  await guest.sh('killall fio');
  await guest.shutdown();
  return replayed(storage);
});

async function replayed(storage) {
  const count = (op) => storage.filter((line) => line.op === op).length;
  const [reads, writes] = [count('read'), count('write')];
  await sh(`truncate -s 64M ${COPY} && truncate -s 1M ${COPY}-short`);
  expectIn(await endsWith(2, `trace replay ${TRACE} ${COPY}`), `the trace has ${writes} writes`, '--reads-only');
  expectIn(await endsWith(1, `trace replay ${TRACE} ${COPY}-short --reads-only`), 'replay it on one that is as long');
  const onlyReads = JSON.parse(await blockd(`trace replay ${TRACE} ${COPY} --reads-only --json`));
  if (onlyReads.operations !== reads || onlyReads.left !== 0 || statSync(COPY).blocks !== 0) {
    throw new Error(`${reads} reads, replayed: ${JSON.stringify(onlyReads)}; ${statSync(COPY).blocks} blocks`);
  }
  // As long as the trace: the times are its own.
  if (onlyReads.seconds < 2) throw new Error(`in ${onlyReads.seconds} s`);
  const { kinds, operations } = JSON.parse(await blockd(`trace replay ${TRACE} ${COPY} --overwrite --fast --json`));
  if (operations !== storage.length || kinds.read.count !== reads || kinds.write.count !== writes) {
    throw new Error(`${reads} reads and ${writes} writes, replayed: ${JSON.stringify(kinds)}`);
  }
  const errors = Object.values(kinds).flatMap((kind) => Object.keys(kind.errors));
  if (errors.length > 0 || statSync(COPY).blocks === 0) throw new Error(`errors ${errors}, or nothing was written`);
  await sh(`rm ${COPY} ${COPY}-short ${TRACE}`);
  return `${reads} reads, ${writes} writes`;
}

/** What it says of one thing. It gives xenstored and the daemon some seconds, which a busy machine may need more than. */
async function checkSays(code, name) {
  const findings = JSON.parse(await endsWith(code, 'check --json'));
  const found = findings.find((finding) => finding.name === name);
  if (!found) throw new Error(`check says nothing of ${name}: ${findings.map((finding) => finding.name)}`);
  return found;
}

/** Puts a fault in; check must tell it, and what it says to do must mend it. */
async function mended({ fault, name, detail }) {
  await sh(fault);
  const { ok, needed, remedy, ...found } = await checkSays(69, name);
  if (ok || !needed || !found.detail.includes(detail)) throw new Error(`${name}: ${JSON.stringify(found)}`);
  await sh(remedy);
  const after = await checkSays(0, name);
  if (!after.ok) throw new Error(`${remedy} did not mend ${name}: ${JSON.stringify(after)}`);
}

const checked = test('check tells what is missing and in the way, and its remedies mend that', async () => {
  writeFileSync(SETTINGS, 'types = ["vbd3", "vbd"]\n');
  try {
    const script = '/etc/xen/scripts/block-xen-blockd';
    await mended({ fault: `rm ${script}`, name: 'hotplug script', detail: 'is not there' });
    await mended({ fault: `chmod 644 ${script}`, name: 'hotplug script', detail: 'may not be run' });
    await mended({ fault: 'modprobe xen-blkback', name: 'xen-blkback', detail: 'it takes the disks of type vbd' });
    writeFileSync(SETTINGS, 'types = ["vbd9"]\n');
    expectIn(await endsWith(78, 'check'), /^MISSING +configuration.*vbd9/m, /^ok +xenstore +this is domain 0$/m);
  } finally {
    await sh(`rm -f ${SETTINGS} ${BLACKLIST}; modprobe -r xen-blkback || true`);
  }
});

group('operator', { ...onWay(tap), xen: ['4.20'] }, [traced, checked]);
