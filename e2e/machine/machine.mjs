/**
 * One emulated machine: Xen with a PV dom0 under QEMU. It needs no virtualisation support.
 *
 * Each physical CPU is one host thread. dom0 has the first to itself and guests are pinned to the second: without
 * the pinning, results vary by ten times.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { domainInitrd, packRun } from './payload.mjs';

/** What `-append` of Xen's needs so that emulation is not slower than it must be. */
const XEN_ARGS =
  'dom0_mem=2560M,max:2560M dom0_max_vcpus=1 dom0_vcpus_pin console=com1 com1=115200,8n1 loglvl=info guest_loglvl=info ucode=no spec-ctrl=no xpti=false';
const DOM0_ARGS = 'console=hvc0 quiet loglevel=4 mitigations=off panic=5';
/** Without a report: a boot of systemd may take 10 on a busy machine. */
const SILENT_MINUTES = { lab: 10, systemd: 25 };
/** Units of a machine that is emulated, on a busy one. */
const SYSTEMD_PATIENCE = 'systemd.default_timeout_start_sec=900';
/** Hardware-assisted paging is emulated too, so that PVH guests boot. */
const CPU = 'qemu64,+svm,+npt,+nrip-save,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16';
/** For what dom0 leaves behind. */
const LOGS_MIB = 64;

/**
 * Boots `lab` with the run's disk made from `run`, whose `init` is dom0's: the lab's own or `systemd`; files go to `folder`. `onReport` gets every object that dom0's
 * program reports. Resolves when the machine is off: `{ ended, reason }`. It is killed after `minutes`, or when
 * nothing has been reported for SILENT_MINUTES.
 */
export async function runMachine(lab, folder, run, { onReport, minutes, signal, smp = 2 }) {
  const silentMinutes = SILENT_MINUTES[run.init] ?? SILENT_MINUTES.lab;
  const child = await startMachine(lab, folder, run, { smp });
  const state = { ended: false, reason: undefined };
  const stop = (reason) => {
    state.reason ??= reason;
    child.kill('SIGKILL');
  };
  const limit = setTimeout(() => stop(`stopped after ${minutes} minutes`), minutes * 60_000);
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => stop(`no sign of life for ${silentMinutes} minutes`), silentMinutes * 60_000);
  };
  const onAbort = () => stop('interrupted');
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted) onAbort();
  heard();
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    heard();
    const report = parse(line);
    if (report?.type === 'end') state.ended = true;
    if (report) onReport(report);
  });
  const [code] = await once(child, 'close');
  clearTimeout(limit);
  clearTimeout(silence);
  signal?.removeEventListener('abort', onAbort);
  if (!state.ended) state.reason ??= `the machine went off before its program ended (QEMU's exit code ${code})`;
  return state;
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function dom0Args({ init }, shell) {
  return [
    DOM0_ARGS,
    ...(init === 'systemd' ? ['lab.systemd', 'systemd.show_status=true', SYSTEMD_PATIENCE] : []),
    ...(shell ? ['lab.shell'] : []),
  ].join(' ');
}

/** A machine whose console is this terminal: a shell in dom0. */
export async function shellMachine(lab, folder, run) {
  const child = await startMachine(lab, folder, run, { smp: 2, shell: true });
  await once(child, 'close');
}

async function startMachine(lab, folder, run, { smp, shell = false }) {
  const image = await packRun(lab, folder, run);
  const initrd = join(folder, 'dom0.initrd');
  writeFileSync(initrd, await domainInitrd(lab, folder));
  const logs = join(folder, 'logs.img');
  writeFileSync(logs, '');
  truncateSync(logs, LOGS_MIB << 20);
  const args = [
    ['-accel', 'tcg,thread=multi,tb-size=512'],
    ['-machine', 'q35', '-cpu', CPU, '-smp', smp, '-m', '5120'],
    ['-display', 'none', '-no-reboot', '-nodefaults'],
    shell ? ['-serial', 'mon:stdio'] : ['-serial', `file:${join(folder, 'console.log')}`],
    ['-kernel', join(lab, 'xen'), '-append', XEN_ARGS],
    ['-initrd', `${join(lab, 'vmlinuz')} ${dom0Args(run, shell)},${initrd}`],
    ['-drive', `file=${join(lab, 'root.img')},if=virtio,format=raw,readonly=on`],
    ['-drive', `file=${image},if=virtio,format=raw,readonly=on`],
    ['-drive', `file=${logs},if=virtio,format=raw,cache=unsafe`],
    shell ? [] : ['-chardev', 'stdio,id=results,signal=off', '-device', 'virtio-serial-pci'],
    shell ? [] : ['-device', 'virtserialport,chardev=results,name=lab.results'],
  ];
  const errors = openSync(join(folder, 'qemu.log'), 'w');
  // An input that ended would close the port towards the guest.
  const stdio = shell ? 'inherit' : ['pipe', 'pipe', errors];
  return spawn('qemu-system-x86_64', args.flat().map(String), { stdio });
}
