import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';

/** What the process uses, as most programs that Prometheus asks say it. */
export function processValues() {
  const { user, system } = process.cpuUsage();
  return {
    process_cpu_user_seconds_total: user / 1e6,
    process_cpu_system_seconds_total: system / 1e6,
    process_cpu_seconds_total: (user + system) / 1e6,
    process_resident_memory_bytes: process.memoryUsage.rss(),
    process_start_time_seconds: performance.timeOrigin / 1000,
    process_open_fds: tryTo(() => readdirSync('/proc/self/fd').length),
    process_max_fds: tryTo(maxFds),
  };
}

/** Seconds that one turn of the event loop takes now. */
export async function eventLoopLag(): Promise<number> {
  const began = performance.now();
  await setImmediate();
  return (performance.now() - began) / 1000;
}

function maxFds(): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === undefined ? undefined : Number(soft);
}

/** Without /proc there is no value. */
function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
