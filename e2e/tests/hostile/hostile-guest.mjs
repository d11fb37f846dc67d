/** A guest that misbehaves on its own disk in every way, in an order that a seed determines. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Blkfront } from '/lab/repo/packages/blkfront/dist/index.js';
import { Random } from '../shared/random.mjs';
import { MISBEHAVIOURS } from './misbehaviours.mjs';

const CONNECT_MS = 120_000;
const GONE_MS = 10_000;
const RETRY_MS = 500;
const FLOOD_SECONDS = 4;
const CONNECTIONS = [
  { ringPageOrder: 0, persistent: false },
  { ringPageOrder: 2, queues: 2, persistent: true },
  { ringPageOrder: 4, queues: 1, maxIndirectSegments: 0 },
  { ringPageOrder: 0, abi: 'x86_32' },
];

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

/** One misbehaviour, on a connection of its own. Resolves with how many requests were answered as they must be. */
async function misbehave(name, { provider: xen, store, vdev, random }) {
  const { provider, abandon } = abandonable(xen);
  const disk = await connect({ provider, store, vdev, closeTimeoutMs: 2000, ...random.pick(CONNECTIONS) });
  let isClosed = false;
  let isGone = false;
  disk.closed.then(() => {
    isClosed = true;
  });
  const tools = {
    random,
    seconds: FLOOD_SECONDS,
    write: (key, value) => store.write(`device/vbd/${disk.devid}/${key}`, value),
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
 * Each misbehaviour once, then any for `seconds`. Resolves with how often each was done, and what was answered. Errors: a
 * wrong request that is not answered with an error, a disk that cannot be connected again.
 */
export async function misbehaveFor(seconds, { provider, store, vdev, seed }) {
  const random = new Random(seed);
  const names = Object.keys(MISBEHAVIOURS);
  const figures = Object.fromEntries(names.map((name) => [name, { times: 0, answered: 0 }]));
  const end = performance.now() + 1000 * seconds;
  for (let turn = 0; turn < names.length || performance.now() < end; turn++) {
    const name = turn < names.length ? names[turn] : random.pick(names);
    const began = performance.now();
    try {
      figures[name].answered += await misbehave(name, { provider, store, vdev, random });
      figures[name].times++;
      console.error(`turn ${turn}, ${name}: ${Math.round(performance.now() - began)} ms`);
    } catch (error) {
      throw new Error(`turn ${turn}, ${name}: ${error.message}`, { cause: error });
    }
  }
  return figures;
}
