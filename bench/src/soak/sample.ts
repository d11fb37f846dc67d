import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CrashHost } from '../crash/crash-host.js';

/** What there is of things that each attach takes and each detach gives back, at rest. */
export interface Counts {
  readonly descriptors: number;
  readonly threads: number;
  readonly mappings: number;
  readonly helpers: number;
  readonly helperDescriptors: number;
  readonly watches: number;
  readonly nodes: number;
  readonly grants: number;
  readonly mapped: number;
  readonly ports: number;
  readonly eventHandles: number;
  /** Journals, helpers' folders, locks. */
  readonly files: number;
}

/** What the daemon has in the host's folder. */
const FOLDERS = ['journal', 'helpers', 'locks'];

/** A look at a daemon and its host. */
export interface Sample {
  readonly seconds: number;
  readonly happenings: number;
  readonly counts: Counts;
  /** Of the daemon after it has collected garbage, and of its helpers, without what is shared with others. */
  readonly memoryMiB: number;
  readonly helperMemoryMiB: number;
}

/** Of the daemon `pid`; Linux's error when it has ended. */
export function look(guests: CrashHost, pid: number, folder: string): Omit<Sample, 'seconds'> {
  const { host, helpers } = guests;
  const domids = [0, ...host.domains.map(({ domid }) => domid)];
  const usages = domids.map((domid) => host.usage(domid));
  const sum = (key: 'grants' | 'mapped' | 'ports' | 'eventHandles') =>
    usages.reduce((total, usage) => total + usage[key], 0);
  return {
    happenings: guests.result().happenings,
    counts: {
      descriptors: entries(pid, 'fd'),
      threads: entries(pid, 'task'),
      mappings: readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').length,
      helpers: helpers.length,
      helperDescriptors: helpers.reduce((total, helper) => total + entries(helper, 'fd'), 0),
      watches: host.xenstored.watchCount,
      nodes: host.xenstored.nodeCount,
      grants: sum('grants'),
      mapped: sum('mapped'),
      ports: sum('ports'),
      eventHandles: sum('eventHandles'),
      files: FOLDERS.reduce((total, name) => total + filesBelow(join(folder, name)), 0),
    },
    memoryMiB: ownMiB(pid),
    helperMemoryMiB: helpers.reduce((total, helper) => total + ownMiB(helper), 0),
  };
}

/** Empty where there is no such folder. */
function filesBelow(folder: string): number {
  return existsSync(folder) ? readdirSync(folder, { recursive: true }).length : 0;
}

function entries(pid: number, folder: string): number {
  return readdirSync(`/proc/${pid}/${folder}`).length;
}

/** Anonymous memory that is resident: files and what is shared with guests are not a process's own. */
function ownMiB(pid: number): number {
  const kibibytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kibibytes) / 102.4) / 10;
}
