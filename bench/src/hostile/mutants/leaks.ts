/** What stays when a guest, a disk or a backend is gone: noticed by nothing but the counts at the end of a round. */
import { channel } from 'node:diagnostics_channel';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { XenstoreOperations } from '@xenpv/xenstore';
import { except } from '../../program/except.js';
import { inEventChannels, inGrantTable } from './hypervisor.js';
import { inOptions, type Mutant, type Planted } from './planted.js';

const SPARSE = 20;
const MIB = 2 ** 20;
const LEFT_MIB = 4;
const LONG_TEXT = 'x'.repeat(MIB);
/** Many disks are attached, for little is left of each. */
const MANY = { lives: 16, ends: ['detached', 'destroyed'] as const };
const FEW_REQUESTS = 100;

export const leaks: Mutant[] = [
  {
    name: 'a grant is not unmapped',
    plant: () => inGrantTable(() => ({ unmap: () => {} })),
    noticed: /left behind: .*mapped/,
    requests: 200,
  },
  {
    name: 'a mapped page of a request is not unmapped',
    plant: unmapsNotAll,
    noticed: /left behind: .*mapped/,
    fixed: { transfer: 'map' },
    requests: 200,
  },
  {
    name: 'a persistent grant is not unmapped',
    plant: unmapsNotAll,
    noticed: /left behind: .*mapped/,
    fixed: { transfer: 'persistent', persistentPages: 300 },
    requests: 400,
  },
  {
    name: 'a port is not closed',
    plant: () => inEventChannels(() => ({ unbind: () => {} })),
    noticed: /left behind: .*ports/,
    requests: 200,
  },
  {
    name: 'the handle of event channels is not closed',
    plant: () => inEventChannels(() => ({ close: () => {} })),
    noticed: /left behind: .*eventHandles/,
    fixed: { takeOvers: true, lives: 2 },
    requests: 2000,
  },
  {
    name: 'a watch is left',
    plant: () =>
      inOptions((options) => {
        const { store } = options;
        const watch: typeof store.watch = async (...args) => {
          const inner = await store.watch(...args);
          const iterator = inner[Symbol.asyncIterator]();
          const others = { close: async () => {}, [Symbol.asyncIterator]: () => ({ next: () => iterator.next() }) };
          return except(inner, others as Partial<typeof inner>);
        };
        return { ...options, store: except(store, { watch }) };
      }),
    noticed: /left behind: watches/,
    requests: 200,
  },
  {
    name: 'a node of an error is left',
    plant: () => inTransactions((tx) => ({ remove: (path) => leaveErrors(tx, path) })),
    noticed: /nodes were left behind/,
    fixed: { lives: 8, ends: [] },
    requests: 400,
  },
  {
    name: 'a node is left below a disk that is gone',
    plant: () => inTransactions((tx) => ({ remove: (path) => leaveBelow(tx, path) })),
    noticed: /nodes were left behind/,
    fixed: { lives: 8, ends: [] },
    requests: 400,
  },
  {
    name: 'a descriptor of each disk is left',
    plant: () => {
      const left: number[] = [];
      return forEachDisk(
        () => left.push(openSync('/dev/null', 'r')),
        () => left.splice(0).map(closeSync),
      );
    },
    noticed: /left behind in the process: descriptors/,
    fixed: MANY,
    requests: FEW_REQUESTS,
  },
  {
    name: 'a thread of each disk is left',
    plant: () => {
      const left: Worker[] = [];
      return forEachDisk(
        () => left.push(new Worker('setInterval(() => {}, 1e6)', { eval: true })),
        () => left.splice(0).map((worker) => worker.terminate()),
      );
    },
    noticed: /left behind in the process: .*threads/,
    fixed: MANY,
    requests: FEW_REQUESTS,
  },
  {
    name: 'the memory of each disk is left',
    plant: () => {
      const left: Uint8Array[] = [];
      return forEachDisk(
        () => left.push(new Uint8Array(LEFT_MIB * MIB)),
        () => left.splice(0),
      );
    },
    noticed: /left behind in the process: bufferMiB/,
    fixed: MANY,
    requests: FEW_REQUESTS,
  },
  {
    name: 'a file of each disk is left',
    plant: () =>
      inOptions((options) => ({
        ...options,
        openImage: async (config, opening) => {
          if (options.journalDirectory) writeFileSync(join(options.journalDirectory, config.target), '');
          return options.openImage!(config, opening);
        },
      })),
    noticed: /files were left behind/,
    fixed: { takeOvers: true },
    requests: 200,
  },
  {
    name: 'what a guest wrote is told at any length',
    plant: () => forEachDisk(() => channel('xenbus:device:error').publish({ error: new Error(LONG_TEXT) })),
    noticed: /bytes in the log/,
    requests: 200,
  },
];

function unmapsNotAll(): Planted {
  let n = 0;
  return inGrantTable((inner) => ({ unmap: (mapping) => (++n % SPARSE === 0 ? undefined : inner.unmap(mapping)) }));
}

/** `undo`: when the test is over. */
function forEachDisk(leave: () => unknown, undo: () => unknown = () => {}): Planted {
  const { options } = inOptions((all) => ({
    ...all,
    openImage: async (config, opening) => {
      leave();
      return all.openImage!(config, opening);
    },
  }));
  return { ...(options ? { options } : {}), [Symbol.dispose]: () => void undo() };
}

function inTransactions(make: (tx: XenstoreOperations) => Partial<XenstoreOperations>): Planted {
  return inOptions((options) => {
    const { store } = options;
    const transaction: typeof store.transaction = (work, ...rest) =>
      store.transaction((tx) => work(except(tx, make(tx) as Partial<typeof tx>)), ...rest);
    return { ...options, store: except(store, { transaction }) };
  });
}

async function leaveErrors(tx: XenstoreOperations, path: string): Promise<void> {
  if (!path.includes('/error/')) await tx.remove(path);
}

async function leaveBelow(tx: XenstoreOperations, path: string): Promise<void> {
  await tx.remove(path);
  if (/\/backend\/qdisk\/\d+\/\d+$/.test(path)) await tx.write(`${path}/left`, '1');
}
