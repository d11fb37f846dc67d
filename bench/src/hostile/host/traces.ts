import { readdirSync, readFileSync } from 'node:fs';
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
  /** Without those that the kernel keeps for io_uring. */
  readonly threads: number;
  /** Of buffers, after a collection of garbage. */
  readonly bufferMiB: number;
  /** Resident, then. */
  readonly memoryMiB: number;
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const KERNEL_THREAD = /^iou-/;

export function processTraces(): ProcessTraces {
  collectGarbage();
  const { rss, arrayBuffers } = process.memoryUsage();
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').filter((task) => !KERNEL_THREAD.test(nameOf(task))).length,
    bufferMiB: Math.round(arrayBuffers / 2 ** 20),
    memoryMiB: Math.round(rss / 2 ** 20),
  };
}

/** Of a thread, which may have ended by now. */
function nameOf(task: string): string {
  try {
    return readFileSync(`/proc/self/task/${task}/comm`, 'latin1');
  } catch {
    return 'iou-';
  }
}

/** What is made once, and kept, such as the threads that do system calls. */
const ROOM = { descriptors: 10, threads: 10, bufferMiB: 48 };
const SETTLE_MS = 3000;
/** Each pause is twice as long as the one before: a look collects garbage, which takes as long. */
const FIRST_PAUSE_MS = 50;

/** Waits until this process has what it had before a round, and no more. Rejects with what is left. */
export async function checkProcess({ descriptors, threads, bufferMiB }: ProcessTraces): Promise<void> {
  const room = {
    descriptors: descriptors + ROOM.descriptors,
    threads: threads + ROOM.threads,
    bufferMiB: bufferMiB + ROOM.bufferMiB,
    memoryMiB: Number.POSITIVE_INFINITY,
  };
  const until = performance.now() + SETTLE_MS;
  for (let pause = FIRST_PAUSE_MS; ; pause *= 2) {
    const more = moreThan(room, processTraces());
    if (more === undefined) return;
    if (performance.now() > until) throw new Error(`left behind in the process: ${more}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** What there is more of, in words, or undefined. */
export function moreThan(before: object, after: object): string | undefined {
  const counts = Object.entries(after as Record<string, number>);
  const more = counts.filter(([key, count]) => count > (before as Record<string, number>)[key]);
  const text = more.map(([key, count]) => `${key}: ${(before as Record<string, number>)[key]} before, ${count} after`);
  return text.length === 0 ? undefined : text.join('; ');
}
