import { readFileSync } from 'node:fs';
import { commandLine, processIds } from '../proc.js';
import { capabilityNames } from './capabilities.js';

/** What a process may do, as /proc tells. */
export interface ProcessPrivileges {
  readonly pid: number;
  /** Its effective user. */
  readonly uid: number;
  /** The effective ones, by name: `sys_admin`. */
  readonly capabilities: readonly string[];
  /** It gets no more by running a program. */
  readonly noNewPrivileges: boolean;
  /** A filter says which system calls it may make. */
  readonly filtered: boolean;
  /** It leaves no core dump. */
  readonly noCoreDumps: boolean;
}

/** Undefined if there is no such process, or no /proc. */
export function privilegesOf(pid: number): ProcessPrivileges | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
    return {
      pid,
      uid: Number(field('Uid').split(/\s+/)[1]),
      capabilities: capabilityNames(field('CapEff') || '0'),
      noNewPrivileges: field('NoNewPrivs') === '1',
      filtered: field('Seccomp') === '2',
      noCoreDumps: /^Max core file size\s+0\s/m.test(readFileSync(`/proc/${pid}/limits`, 'latin1')),
    };
  } catch {
    return undefined;
  }
}

/** The processes whose words of the command line are such, but for this one. */
export function processesLike(isSuch: (words: readonly string[]) => boolean): number[] {
  return processIds().filter((pid) => pid !== process.pid && isSuch(commandLine(pid)));
}

/** A daemon: `xen-blockd run`, whatever runs it. */
export function isDaemon(words: readonly string[]): boolean {
  return words.some((word, i) => /(^|\/)(xen-blockd|xen-blockd\/dist\/main\.js)$/.test(word) && words[i + 1] === 'run');
}
