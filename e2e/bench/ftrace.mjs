/** Records dom0's system calls, interrupts and switches of processes for a moment, with the kernel's own tracer. */
import { sh } from '../dom0/shell.mjs';

const TRACING = '/sys/kernel/tracing';
const EVENTS = ['raw_syscalls', 'sched/sched_switch', 'sched/sched_wakeup', 'irq/irq_handler_entry'];
const BUFFER_KIB = 8192;

/** Writes what happens in `seconds` to `file`, as the kernel prints it. */
export async function recordTrace(file, seconds) {
  const set = (value) => EVENTS.map((event) => `echo ${value} > events/${event}/enable`).join('; ');
  await sh(
    [
      `mountpoint -q ${TRACING} || mount -t tracefs tracefs ${TRACING}`,
      `cd ${TRACING}`,
      `echo 0 > tracing_on; echo ${BUFFER_KIB} > buffer_size_kb; ${set(1)}`,
      `: > trace; echo 1 > tracing_on; sleep ${seconds}; echo 0 > tracing_on`,
      `cp trace ${file}; ${set(0)}; : > trace`,
    ].join(' && '),
  );
}
