/** docs/operations.md in a dom0 that systemd started: the commands of the page, in its order, and what it shows of their output. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { DomainConsole } from '../dom0/console.mjs';
import { codeBlocks, commandsOf, isShown } from '../dom0/document.mjs';
import { BOOT } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { log } from '../dom0/report.mjs';
import { sh, until } from '../dom0/shell.mjs';
import { nothingIsLeft } from './systemd/package.mjs';

const PAGE = '/lab/docs/operations.md';
/** Where the operator is. */
const HOME = '/root';
const SOON_SECONDS = 60;
/** Of timeout(1): the command did not end before. */
const INTERRUPTED = 124;

const guests = new Map();

/** What the page takes for granted: two packages, the kernel and initrd of a guest, programs that ask nothing. */
async function prepare() {
  await sh(`mkdir -p ${HOME}/newer /srv/web1 && ln -sf ${BOOT}/vmlinuz ${BOOT}/guest-fio.initrd /srv/web1/`);
  await sh('mv /srv/web1/guest-fio.initrd /srv/web1/initrd.img');
  for (const [from, to] of [
    ['xen-blockd', HOME],
    ['newer', `${HOME}/newer`],
  ]) {
    const file = `/lab/${from}.deb`;
    await sh(`cp ${file} ${to}/xen-blockd_$(dpkg-deb -f ${file} Version)_amd64.deb`);
  }
  await sh(`echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/lab`);
  // As the lab's other guests: dom0 has the first processor.
  await sh(`echo 'vm.cpumask="1"' >>/etc/xen/xl.conf`);
}

async function runBlock(block) {
  const { line, text, lab } = block;
  if (lab.file) {
    await sh(`mkdir -p ${dirname(lab.file)}`);
    return writeFileSync(lab.file, text);
  }
  for (const { command, printed } of commandsOf(block)) {
    const began = performance.now();
    await (lab.soon ? untilRight : once)(line, { command, printed, ...lab });
    log(`${line}: ${command} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  }
}

async function once(line, { command, printed, guest, vary, seconds }) {
  const found = await carryOut(command, { guest, seconds }).catch((error) => {
    throw new Error(`${PAGE}:${line}: ${error.message}`);
  });
  if (printed === undefined || isShown(printed, found, { vary })) return;
  throw new Error(`${PAGE}:${line}: ${command}\nThe page shows:\n${printed.join('\n')}\nIt printed:\n${found}`);
}

async function untilRight(line, how) {
  let failure;
  const isRight = () =>
    once(line, how).then(
      () => true,
      (error) => {
        failure = error;
      },
    );
  await until(how.command, isRight, { timeout: SOON_SECONDS, every: 1 }).catch(() => {
    throw failure;
  });
}

async function carryOut(command, { guest, seconds }) {
  if (guest) return (await consoleOf(guest)).sh(command);
  if (seconds === undefined) return sh(`set -o pipefail; cd ${HOME}; ${command}`, { timeout: 300 });
  // What looks again and again wants a terminal.
  const within = `timeout --foreground -s INT ${seconds} ${command}`;
  const ended = `TERM=xterm COLUMNS=160 LINES=50 script -qec '${within}' /dev/null; code=$?`;
  const found = await sh(`cd ${HOME}; ${ended}; [ $code = 0 ] || [ $code = ${INTERRUPTED} ]`, {
    timeout: seconds + 60,
  });
  if (found.trim() === '') throw new Error(`${command}: it has printed nothing`);
  return found;
}

async function consoleOf(name) {
  if (!guests.has(name)) {
    const domid = Number((await sh(`xl domid ${name}`)).trim());
    const console = await DomainConsole.open(name, domid);
    guests.set(name, console);
    await console.ready();
  }
  return guests.get(name);
}

async function end() {
  for (const console of guests.values()) console.close();
  for (const name of guests.keys()) await sh(`xl destroy ${name} 2>/dev/null || true`);
  await sh('apt-get purge -y xen-blockd; rm -rf /etc/apt/apt.conf.d/lab /srv/* /root/*', { timeout: 300 });
}

/** A test for each section, since one goes on from what the one before it left. */
function sections() {
  const bySection = new Map();
  for (const block of codeBlocks(readFileSync(PAGE, 'utf8')).filter(({ lab }) => lab)) {
    bySection.set(block.section, [...(bySection.get(block.section) ?? []), block]);
  }
  return [...bySection].map(([section, blocks]) => {
    const run = async () => {
      for (const block of blocks) await runBlock(block);
      return `${blocks.reduce((sum, block) => sum + (block.lab.file ? 1 : commandsOf(block).length), 0)} commands`;
    };
    return test(`the page as it is written: ${section}`, run, { minutes: 12 });
  });
}

group('operations.md', { setup: prepare, teardown: end, inOrder: true }, [
  ...sections(),
  test('what the page removes is gone', nothingIsLeft),
]);
