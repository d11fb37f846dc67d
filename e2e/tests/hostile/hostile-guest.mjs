/** A guest that misbehaves on its own disks in one way at a time, on connections of each kind. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Blkfront } from '/lab/repo/packages/blkfront/dist/index.js';
import { MISBEHAVIOURS } from './misbehaviours.mjs';

const CONNECT_MS = 120_000;
const GONE_MS = 10_000;
const RETRY_MS = 500;
const FLOOD_SECONDS = 1;
/** Of no domain, beside the backend's. */
const ANOTHER_DOMID = 0x700;
/** Each layout of requests, and each kind of ring. */
const CONNECTIONS = [
  { abi: 'x86_64', ringPageOrder: 0, persistent: false },
  { abi: 'x86_32', ringPageOrder: 2, queues: 2, persistent: true },
  { abi: 'arm', ringPageOrder: 4, maxIndirectSegments: 0 },
];
const KINDS = CONNECTIONS.length;
/** What some need of a connection. */
const SPECIAL = {
  'slots of another layout': { abi: 'x86_64', testing: { announceProtocol: false } },
  'writes to a disk that is only read': { isReadOnly: true },
};

/** The provider, and a way to let go of all that was opened since, whoever uses it. */
function abandonable(provider) {
  const opened = [];
  const remember = (handle) => {
    opened.push(handle);
    return handle;
  };
  return {
    provider: {
      openEventChannels: () => remember(provider.openEventChannels()),
      openGrantAllocator: () => remember(provider.openGrantAllocator()),
    },
    abandon() {
      for (const handle of opened.splice(0)) handle.close();
    },
  };
}

/** Connects, also when the backend is still at the end of what came before, which it may answer with Closing. */
async function connect(options) {
  const signal = AbortSignal.timeout(CONNECT_MS);
  for (;;) {
    try {
      return await Blkfront.connect({ ...options, signal });
    } catch (error) {
      if (signal.aborted || error.code !== 'ERR_HANDSHAKE') throw error;
      await sleep(RETRY_MS);
    }
  }
}

/** Once, on a connection of its own. Resolves with how many requests were answered as they must be. */
async function misbehave(name, connection, { provider: xen, store, vdev, random }) {
  const { provider, abandon } = abandonable(xen);
  const disk = await connect({ provider, store, vdev, closeTimeoutMs: 2000, ...connection });
  let isClosed = false;
  let isGone = false;
  disk.closed.then(() => {
    isClosed = true;
  });
  const own = `device/vbd/${disk.devid}`;
  const tools = {
    random,
    seconds: FLOOD_SECONDS,
    write: (key, value) => store.write(`${own}/${key}`, value),
    /** References of a page that the backend may only read, and of one that is granted to another domain. */
    async grant() {
      const backend = Number(await store.read(`${own}/backend-id`));
      const allocator = provider.openGrantAllocator();
      const [readOnly] = allocator.allocate(backend, 1, { writable: false }).refs;
      const [foreign] = allocator.allocate(ANOTHER_DOMID, 1, { writable: true }).refs;
      return { readOnly, foreign };
    },
    abandon() {
      isGone = true;
      abandon();
    },
  };
  let answered = 0;
  try {
    answered = (await MISBEHAVIOURS[name](disk, tools)) ?? 0;
  } catch (error) {
    // What it does itself may end its connection at any step.
    if (!isClosed) throw error;
  }
  if (isGone) {
    await tools.write('state', '6');
    // What is left of it here answers the backend's Closed too: not while the next one connects.
    await Promise.race([disk.closed, sleep(GONE_MS)]);
  } else await disk.close().catch(() => {});
  abandon();
  return answered;
}

/**
 * One misbehaviour again and again, for `seconds` and at least `least` times, on one kind of connection after the other from the
 * one of number `first`. Resolves with `{ times,
 * answered }`. Errors: a wrong request that is not answered as it must be, a disk that cannot be connected again.
 */
export async function misbehaveFor({ name, seconds, first, least = KINDS }, { vdev, readOnlyVdev, ...parts }) {
  const { isReadOnly = false, ...special } = SPECIAL[name] ?? {};
  const end = performance.now() + 1000 * seconds;
  let times = 0;
  let answered = 0;
  while (times < least || performance.now() < end) {
    const began = performance.now();
    const connection = { ...CONNECTIONS[(first + times) % KINDS], ...special };
    try {
      answered += await misbehave(name, connection, { ...parts, vdev: isReadOnly ? readOnlyVdev : vdev });
    } catch (error) {
      throw new Error(`${name}, ${connection.abi}, turn ${times}: ${error.message}`, { cause: error });
    }
    times++;
    console.error(`${name}, ${connection.abi}: ${Math.round(performance.now() - began)} ms`);
  }
  return { times, answered };
}
