import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';

// Runs one of the scenarios of ../threads/threads.test.ts as a domain on its own thread.
const { module, data } = workerData.shared;
const { attachProvider } = await import(module);
const provider = await attachProvider(data);
const { XenstoreClient } = createRequire(import.meta.url)('@xenpv/xenstore');

const inbox = [];
const readers = [];
parentPort.on('message', (message) => {
  const reader = readers.shift();
  if (reader === undefined) inbox.push(message);
  else reader(message);
});
const receive = () =>
  inbox.length > 0 ? Promise.resolve(inbox.shift()) : new Promise((resolve) => readers.push(resolve));
const send = (message) => parentPort.postMessage(message);

/** Calls `step` after each event, unmasked already, until it returns true. */
async function onEvents(channels, port, mode, step) {
  const ports = new Uint32Array(8);
  if (mode === 'wait') {
    for (;;) {
      if (!channels.wait(10_000)) throw new Error(`domain ${provider.domid}: a wake-up was lost`);
      channels.unmask(ports, channels.pending(ports));
      if (step(port)) return;
    }
  }
  await new Promise((resolve) => {
    channels.listen((fired, count) => {
      channels.unmask(fired, count);
      if (step(port)) resolve();
    });
  });
  channels.listen(undefined);
}

async function bindChannel(channels) {
  if (workerData.peer !== undefined) return channels.bindInterdomain(workerData.peer.domid, await receive());
  const port = channels.bindUnbound(workerData.opensTo);
  send(port);
  return port;
}

const scenarios = {
  /** Strictly by turns: one lost wake-up and nothing moves again. */
  async pingPong() {
    const channels = provider.openEventChannels();
    const port = await bindChannel(channels);
    const turns = new Int32Array(workerData.memory);
    const [mine, theirs] = workerData.peer === undefined ? [0, 1] : [1, 0];
    if (mine === 0) await receive();
    else send('bound');
    const rounds = workerData.rounds;
    const step = () => {
      while (turns[mine] < rounds && Atomics.load(turns, theirs) >= turns[mine] + mine) {
        Atomics.add(turns, mine, 1);
        channels.notify(port);
      }
      return Atomics.load(turns, mine) >= rounds;
    };
    if (!step()) await onEvents(channels, port, workerData.mode, step);
    send(turns[mine]);
    await receive();
    channels.close();
  },

  /** Both count up as fast as they can and tell each other; each must hear of the other's last count. */
  async hammer() {
    const channels = provider.openEventChannels();
    const port = await bindChannel(channels);
    const counts = new Int32Array(workerData.memory);
    const [mine, theirs] = workerData.peer === undefined ? [0, 1] : [1, 0];
    if (mine === 0) await receive();
    else send('bound');
    const { rounds } = workerData;
    const step = () => {
      for (let i = 0; i < 50 && counts[mine] < rounds; i++) {
        Atomics.add(counts, mine, 1);
        channels.notify(port);
      }
      const done = counts[mine] >= rounds && Atomics.load(counts, theirs) >= rounds;
      // What moves either side is the other's events.
      if (!done) channels.notify(port);
      return done;
    };
    if (!step()) await onEvents(channels, port, workerData.mode, step);
    send(counts[mine]);
    await receive();
    channels.close();
  },

  /** Allocates and releases with a mark of its own in every page; nobody else may ever write there. */
  async allocate() {
    const allocator = provider.openGrantAllocator();
    const held = [];
    for (let i = 0; i < workerData.rounds; i++) {
      const pages = allocator.allocate(0, 1 + (i % 3), { writable: true });
      for (const offset of pages.offsets) new Int32Array(pages.buffer, offset, 1024).fill(workerData.mark + i);
      held.push({ pages, value: workerData.mark + i });
      if (held.length > 5) check(allocator, held.splice((i * 7) % held.length, 1)[0]);
    }
    for (const item of held) check(allocator, item);
    allocator.close();
    send('done');
  },

  /** Maps, copies and unmaps the references it is told of while their owner ends them. */
  async use() {
    const table = provider.openGrantTable();
    const local = new SharedArrayBuffer(4096);
    const { GrantCopyBatch } = createRequire(import.meta.url)('@xenpv/xen-sys');
    const batch = new GrantCopyBatch(1);
    const address = table.register(local);
    const refs = new Uint32Array(workerData.memory);
    let mapped = 0;
    send('ready');
    while (Atomics.load(refs, 0) !== 0xffffffff) {
      const ref = Atomics.load(refs, 0);
      batch.clear();
      batch.fromGrant(workerData.owner, ref, 0, address, 4096);
      if (table.copy(batch) !== 0) throw new Error('the batch was refused');
      try {
        table.unmap(table.map(workerData.owner, Uint32Array.of(ref), { writable: true }));
        mapped++;
      } catch (error) {
        if (error.code !== 'EINVAL') throw error;
      }
    }
    table.close();
    send(mapped);
  },

  /** Binds to a domain that was made after this thread attached, before its event loop has run again. */
  async late() {
    send('attached');
    const word = new Int32Array(workerData.memory);
    Atomics.wait(word, 0, 0, 10_000);
    const channels = provider.openEventChannels();
    const port = channels.bindInterdomain(word[0], word[1]);
    channels.notify(port);
    send(port > 0);
    await receive();
    channels.close();
  },

  async xenstore() {
    const store = XenstoreClient.open(await provider.connectXenstore());
    const big = 'x'.repeat(2000);
    await Promise.all(Array.from({ length: 80 }, (_, i) => store.write(`data/${i}`, big)));
    const values = await Promise.all(Array.from({ length: 80 }, (_, i) => store.read(`data/${i}`)));
    send([await store.read('name'), values.every((value) => value === big)]);
    if ((await receive()) === 'wait for the end') {
      const error = await store.closed;
      send(error === undefined ? 'closed' : error.code);
    }
    await store.close();
  },

  /** Leaves everything open for the host to clean up, and never ends. */
  async abandon() {
    const channels = provider.openEventChannels();
    const port = channels.bindUnbound(0);
    const pages = provider.openGrantAllocator().allocate(0, 2, { writable: true });
    const table = provider.openGrantTable();
    table.map(workerData.owner, Uint32Array.of(workerData.ref), { writable: true });
    send({ port, refs: pages.refs });
    try {
      channels.wait(60_000);
    } catch {
      // The domain was destroyed before the wait began.
    }
    send('woken');
    setInterval(() => {}, 1000);
  },
};

function check(allocator, { pages, value }) {
  for (const offset of pages.offsets) {
    if (!new Int32Array(pages.buffer, offset, 1024).every((word) => word === value)) throw new Error('shared page');
  }
  allocator.release(pages);
}

await scenarios[workerData.scenario]();
parentPort.close();
