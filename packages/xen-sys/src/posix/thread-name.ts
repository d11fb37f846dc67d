import { writeFileSync } from 'node:fs';

/**
 * Gives the calling thread a name, as `top -H`, `ps -L` and a debugger show it; that of the main thread is the process's own.
 * The kernel keeps its first 15 bytes. Where there is no /proc nothing happens: a name is no reason to fail.
 */
export function nameThread(name: string): void {
  try {
    writeFileSync('/proc/thread-self/comm', name);
  } catch {}
}
