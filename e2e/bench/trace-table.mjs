/** What a trace of the kernel's (ftrace.mjs) says: how long each step from one event to the next takes. */
import { median } from '../../scripts/lib/median.mjs';

const LINE = /^\s*\S.*?-\d+\s+\[\d+\] \S+\s+([\d.]+): (\w+): (.*)$/;
const CALLS = {
  0: 'read',
  1: 'write',
  16: 'ioctl',
  17: 'pread',
  18: 'pwrite',
  202: 'futex',
  228: 'clock_gettime',
  232: 'epoll_wait',
  271: 'ppoll',
  281: 'epoll_pwait',
  426: 'io_uring_enter',
};
const IOCTLS = { 104708: 'grant copy', 44504: 'notify' };
/** Steps that take less of the time are left out. */
const LEAST_SHARE = 0.01;

/** A short name for an event, or undefined for one that does not matter. */
function nameOf(event, rest, calls) {
  switch (event) {
    case 'irq_handler_entry':
      return /timer/.test(rest) ? undefined : 'interrupt';
    case 'sched_wakeup':
      return 'woken';
    case 'sched_switch':
      return /next_pid=0 /.test(rest) ? 'idle' : 'running';
    case 'sys_enter':
      return `${(calls.last = callOf(rest))}, in`;
    case 'sys_exit':
      // The kernel says the number only; between its two ends another process may have called something else.
      return `${callOf(rest).startsWith('ioctl') && calls.last ? calls.last : callOf(rest)}, out`;
    default:
      return undefined;
  }
}

function callOf(rest) {
  const number = /^NR (-?\d+)/.exec(rest)?.[1];
  const name = CALLS[number] ?? `call ${number}`;
  const request = name === 'ioctl' ? /\(\w+, (\w+)/.exec(rest)?.[1] : undefined;
  return IOCTLS[request] ?? (request ? `ioctl ${request}` : name);
}

/** `[{ from, to, count, median, mean, share }]`, microseconds, the largest share of the time first. */
function steps(trace) {
  const found = new Map();
  const calls = {};
  let last;
  for (const line of trace.split('\n')) {
    const [, seconds, event, rest] = LINE.exec(line) ?? [];
    const name = event && nameOf(event, rest, calls);
    if (!name) continue;
    const at = Number(seconds) * 1e6;
    if (last) add(found, last.name, name, at - last.at);
    last = { name, at };
  }
  const all = [...found.values()];
  const total = sum(all.flatMap(({ times }) => times));
  return all
    .map(({ from, to, times }) => ({
      from,
      to,
      count: times.length,
      median: median(times),
      mean: sum(times) / times.length,
      share: sum(times) / total,
    }))
    .sort((a, b) => b.share - a.share);
}

function add(found, from, to, time) {
  const key = `${from} > ${to}`;
  if (!found.has(key)) found.set(key, { from, to, times: [] });
  found.get(key).times.push(time);
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** A Markdown table of the steps. */
export function stepTable(trace) {
  const rows = steps(trace)
    .filter(({ share }) => share >= LEAST_SHARE)
    .map(({ from, to, count, median, mean, share }) => {
      const time = `${median.toFixed(0)} | ${mean.toFixed(0)} | ${(share * 100).toFixed(1)} %`;
      return `| ${from} | ${to} | ${count} | ${time} |`;
    });
  return ['| from | to | times | median µs | mean µs | of the time |', '|---|---|---|---|---|---|', ...rows].join('\n');
}
