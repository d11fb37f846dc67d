import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { EmulatedHost } from '@xenpv/emulator';
import type { XenstoreClient } from '@xenpv/xenstore';

/** What a host has at a moment, of all that a guest that is gone must not leave behind. */
export interface HostTraces {
  readonly watches: number;
  readonly grants: number;
  readonly mapped: number;
  readonly ports: number;
  readonly eventHandles: number;
}

/** Empty folders, one of each, that a toolstack and a backend leave. */
const FOLDERS = /(\/device(\/vbd)?|\/backend(\/qdisk)?|\/domain\/0\/error)$/;

/** A domain that is made anew has another one. */
const UUID = /^\/vm\/[0-9a-f-]{36}/;

/** The paths of all nodes that mean something. */
export async function allNodes(store: XenstoreClient): Promise<string[]> {
  const paths = await nodesBelow(store, '');
  return paths.filter((path) => !FOLDERS.test(path)).map((path) => path.replace(UUID, '/vm/'));
}

async function nodesBelow(store: XenstoreClient, below: string): Promise<string[]> {
  const names = (await store.tryDirectory(below === '' ? '/' : below)) ?? [];
  const paths = names.filter((name) => name !== '').map((name) => `${below}/${name}`);
  return (await Promise.all(paths.map(async (path) => [path, ...(await nodesBelow(store, path))]))).flat();
}

/** `domids`: of the guests. */
export function hostTraces(xen: EmulatedHost, domids: readonly number[]): HostTraces {
  const all = [0, ...domids].map((domid) => xen.usage(domid));
  const sum = (key: 'grants' | 'mapped' | 'ports' | 'eventHandles') => all.reduce((total, one) => total + one[key], 0);
  return {
    watches: xen.xenstored.watchCount,
    grants: sum('grants'),
    mapped: sum('mapped'),
    ports: sum('ports'),
    eventHandles: sum('eventHandles'),
  };
}

/** What this process has. */
export interface ProcessTraces {
  readonly descriptors: number;
  readonly threads: number;
  /** Resident, after a collection of garbage. */
  readonly memoryMiB: number;
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

export function processTraces(): ProcessTraces {
  collectGarbage();
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
    memoryMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}

/** What there is more of, in words, or undefined. */
export function moreThan(before: object, after: object): string | undefined {
  const counts = Object.entries(after as Record<string, number>);
  const more = counts.filter(([key, count]) => count > (before as Record<string, number>)[key]);
  const text = more.map(([key, count]) => `${key}: ${(before as Record<string, number>)[key]} before, ${count} after`);
  return text.length === 0 ? undefined : text.join('; ');
}
