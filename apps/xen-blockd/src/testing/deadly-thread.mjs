// Loaded before the program and its threads (`node --import`): SIGUSR2 has each thread that serves rings end as
// DEADLY_THREAD says: by an exception, by its own exit, or for lack of memory.
import { BroadcastChannel, isMainThread } from 'node:worker_threads';

const WAYS = {
  throw: () => {
    throw new Error('a fault of this test');
  },
  exit: () => process.exit(3),
  memory: () => {
    for (const all = []; ; ) all.push(new Array(1 << 16).fill(all.length));
  },
};

const channel = new BroadcastChannel('deadly-thread');
channel.unref();
if (isMainThread) process.on('SIGUSR2', () => channel.postMessage('now'));
else channel.onmessage = WAYS[process.env.DEADLY_THREAD];
