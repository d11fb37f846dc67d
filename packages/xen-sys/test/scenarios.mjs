// What native.test.ts runs, each in a process of its own over the fake devices: node scenarios.mjs NAME.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { GrantCopyBatch, GrantStatus, nativeProvider } from '@xenpv/xen-sys';
import { testProvider } from '@xenpv/xen-sys/testing';

const directory = process.env.FAKE_XEN_DIRECTORY;
const provider = nativeProvider({ deviceDirectory: directory, foreignMemoryLibrary: process.env.FAKE_XEN_LIBRARY });
const rw = { writable: true };

const throws = (action, code) => assert.throws(action, (error) => error.name === 'XenSysError' && error.code === code);

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const openFiles = () => readdirSync('/proc/self/fd').length;
const mappedPages = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:fake-xen')).length;

/** A handle of each kind, all in use, bound to each other. */
function useAll() {
  const events = provider.openEventChannels();
  const allocator = provider.openGrantAllocator();
  const grants = provider.openGrantTable();
  const foreign = provider.openForeignMemory();
  const near = events.bindUnbound(0);
  const far = events.bindInterdomain(0, near);
  events.listen((ports, count) => {
    events.unmask(ports, count);
    events.notify(near);
    events.notify(far);
  });
  const pages = allocator.allocate(0, 2, rw);
  const mapping = grants.map(0, pages.refs, rw);
  const frames = foreign.map(1, [3, 4], rw);
  return { events, allocator, grants, foreign, pages, mapping, frames };
}

const scenarios = {
  async features() {
    assert.equal(provider.name, 'native');
    const { grantCopy, grantAllocator, foreignMemory, mapMultiple } = provider.features;
    assert.deepEqual([grantCopy, grantAllocator, foreignMemory, mapMultiple], [true, true, true, true]);
  },

  async events() {
    const a = provider.openEventChannels();
    const b = provider.openEventChannels();
    const near = a.bindUnbound(0);
    const far = b.bindInterdomain(0, near);
    const fired = [];
    b.listen((ports, count) => fired.push(...ports.subarray(0, count)));
    await until(() => fired.length === 1);
    assert.equal(a.notify(near), 0);
    assert.equal(a.notify(near), 0);
    assert.deepEqual(fired, [far], 'masked until it is unmasked');
    assert.equal(b.unmask(Uint32Array.of(far), 1), 0);
    await until(() => fired.length === 2);
    const ports = new Uint32Array(8);
    assert.equal(a.pending(ports), 0);
    assert.equal(b.notify(far), 0);
    assert.equal(a.pending(ports), 1);
    assert.equal(ports[0], near);
    assert.equal(a.notify(far), -22);
    throws(() => a.unbind(far), 'EINVAL');
    throws(() => a.bindInterdomain(0, 3000), 'EINVAL');
    throws(() => a.bindInterdomain(9, 1), 'ESRCH');
    a.unbind(near);
    assert.equal(a.notify(near), -22);
    b.listen(undefined);
    a.close();
    a.close();
    b.close();
    assert.equal(a.notify(near), -9);
    throws(() => a.bindUnbound(0), 'ERR_CLOSED');
  },

  /** The suite that every provider passes, both domains being the only one there is. */
  async 'conforms to the provider suite'() {
    const own = nativeProvider({ deviceDirectory: directory, xenstorePath: `${directory}/xenbus` });
    const domain = { domid: 0, provider: own };
    const tests = [];
    testProvider('native', async () => ({ backend: domain, frontend: domain, close() {} }), {
      describe: (_, body) => body(),
      it: (name, body) => tests.push({ name, body }),
    });
    const before = openFiles();
    for (const { name, body } of tests) {
      await body().catch((cause) => {
        throw new Error(name, { cause });
      });
    }
    assert.ok(tests.length > 30);
    assert.ok(openFiles() <= before + 2, 'nothing leaked');
  },

  /** More ports than one write(2) of the kernel takes. */
  async 'many events'() {
    const events = provider.openEventChannels();
    const far = Array.from({ length: 1500 }, () => events.bindInterdomain(0, events.bindUnbound(0)));
    const seen = new Set();
    events.listen((ports, count) => {
      for (const port of ports.subarray(0, count)) seen.add(port);
    });
    await until(() => seen.size === far.length);
    seen.clear();
    assert.equal(events.unmask(Uint32Array.from(far), far.length), 0);
    for (const port of far) events.notify(port - 1);
    await until(() => seen.size === far.length);
    events.close();
  },

  async 'sleeps until something happens'() {
    const a = provider.openEventChannels();
    const b = provider.openEventChannels();
    const near = a.bindUnbound(0);
    const far = b.bindInterdomain(0, near);
    const sleeper = b.openSleeper();
    const { ports } = sleeper;
    const results = [];
    let turns = 0;
    const sleep = (first) => results.push(sleeper.sleep(0, 0, first, -1));
    await new Promise((resolve) => {
      b.listen((fired, count) => {
        b.unmask(fired, count);
        if (turns++ > 0) return;
        // An event that is there already, then a timer that falls due.
        a.notify(near);
        sleep(true);
        assert.deepEqual([results[0], ports[0]], [1, far]);
        setTimeout(resolve, 30);
        // Unmasked by the sleep itself, which an event then ends; the next one is for nothing.
        sleeper.unmask[0] = far;
        a.notify(near);
        assert.deepEqual([sleeper.sleep(1, 0, false, -1), ports[0]], [1, far]);
        // A limit of its own comes before the timer, one beyond it does not.
        assert.equal(sleeper.sleep(1, 0, false, 2000), -62);
        results.push(sleeper.sleep(0, 0, false, 10_000_000));
      });
    });
    assert.equal(results[1], -11, 'the timer gets its turn');
    assert.equal(turns, 1);
    // With something to do at once the loop is not kept waiting; a message of another thread ends a sleep.
    const worker = new Worker(
      'setTimeout(() => parentPort.postMessage(1), 30); const { parentPort } = require("worker_threads");',
      {
        eval: true,
      },
    );
    let message = false;
    worker.on('message', () => {
      message = true;
    });
    await new Promise((resolve) => worker.once('online', resolve));
    await new Promise((resolve) => {
      b.listen(() => {
        while (!message) if (sleeper.sleep(0, 0, true, -1) < 0) return resolve();
      });
      b.unmask(Uint32Array.of(far), 1);
      a.notify(near);
    });
    await until(() => message);
    await worker.terminate();
    a.close();
    b.close();
    assert.ok(sleeper.sleep(0, 0, true, -1) < 0, 'closed');
  },

  async grants() {
    const allocator = provider.openGrantAllocator();
    const grants = provider.openGrantTable();
    const pages = allocator.allocate(0, 3, rw);
    const readOnly = allocator.allocate(0, 1, { writable: false });
    const order = Uint32Array.of(pages.refs[2], pages.refs[0]);
    const mapping = grants.map(0, order, rw);
    assert.deepEqual([mapping.contiguous, ...mapping.offsets], [true, 0, 4096]);
    new Uint32Array(mapping.buffer)[0] = 77;
    assert.equal(new Uint32Array(pages.buffer)[2048], 77);
    throws(() => grants.map(0, readOnly.refs, rw), 'EACCES');
    throws(() => grants.map(0, Uint32Array.of(pages.refs[0], 9999), rw), 'EINVAL');
    throws(() => allocator.allocate(0, 100_000, rw), 'ENOSPC');
    const seen = grants.map(0, readOnly.refs, { writable: false });
    new Uint8Array(readOnly.buffer)[5] = 9;
    assert.equal(new Uint8Array(seen.buffer)[5], 9);
    grants.unmap(seen);
    grants.unmap(seen);
    assert.equal(seen.buffer.byteLength, 0, 'detached');
    grants.close();
    grants.close();
    assert.equal(mapping.buffer.byteLength, 0, 'detached by close');
    throws(() => grants.map(0, order, rw), 'ERR_CLOSED');
    allocator.release(pages);
    allocator.release(pages);
    assert.equal(pages.buffer.byteLength, 0);
    allocator.close();
    throws(() => allocator.allocate(0, 1, rw), 'ERR_CLOSED');
  },

  async copies() {
    const allocator = provider.openGrantAllocator();
    const grants = provider.openGrantTable();
    const pages = allocator.allocate(0, 2, rw);
    const readOnly = allocator.allocate(0, 1, { writable: false });
    for (const buffer of [new ArrayBuffer(8192), new SharedArrayBuffer(8192)]) {
      const local = new Uint8Array(buffer);
      const address = grants.register(buffer);
      assert.equal(grants.register(buffer), address);
      const batch = new GrantCopyBatch(4);
      local.fill(5, 0, 100);
      batch.toGrant(0, pages.refs[1], 40, address, 100);
      batch.toGrant(0, 9999, 0, address, 100);
      batch.toGrant(0, readOnly.refs[0], 0, address, 100);
      batch.fromGrant(7, pages.refs[0], 0, address, 100);
      assert.equal(grants.copy(batch), 0);
      const { okay, badGntref, permissionDenied, badDomain } = GrantStatus;
      assert.deepEqual(
        [0, 1, 2, 3].map((i) => batch.status(i)),
        [okay, badGntref, permissionDenied, badDomain],
      );
      assert.equal(new Uint8Array(pages.buffer)[4096 + 139], 5);
      batch.clear();
      batch.fromGrant(0, pages.refs[1], 40, address + 4096, 100);
      assert.equal(grants.copy(batch), 0);
      assert.deepEqual(local.subarray(4095, 4197), Uint8Array.of(0, ...Array(100).fill(5), 0));
      batch.clear();
      batch.fromGrant(0, pages.refs[1], 4000, address, 100);
      assert.equal(grants.copy(batch), -22, 'across the end of the page');
      grants.unregister(buffer);
    }
    grants.close();
    assert.equal(grants.copy(new GrantCopyBatch(1)), -9);
    allocator.close();
  },

  async 'foreign memory'() {
    const foreign = provider.openForeignMemory();
    const mapping = foreign.map(1, [7, 999, 7], rw);
    assert.deepEqual([...mapping.errors], [0, -22, 0]);
    const bytes = new Uint8Array(mapping.buffer);
    bytes[10] = 3;
    assert.equal(bytes[8192 + 10], 3);
    throws(() => foreign.map(1, [999], rw), 'EINVAL');
    throws(() => foreign.map(2, [1], rw), 'ESRCH');
    foreign.unmap(mapping);
    assert.equal(mapping.buffer.byteLength, 0);
    const left = foreign.map(1, [1], rw);
    foreign.close();
    assert.equal(left.buffer.byteLength, 0);
    throws(() => foreign.map(1, [1], rw), 'ERR_CLOSED');
  },

  /** Each message comes back as it is; a watch only after what was sent before it. */
  async 'xenstore device'() {
    const options = { deviceDirectory: directory, xenstorePath: `${directory}/xenbus` };
    const transport = await nativeProvider(options).connectXenstore();
    assert.deepEqual([transport.maxPayload, transport.description], [4080, `${directory}/xenbus`]);
    const received = [];
    let closed = 0;
    transport.start({ data: (chunk) => received.push(chunk), close: (error) => (closed += error ? 100 : 1) });
    const types = [2, 2, 4, 1, 5, 4, 11];
    const messages = types.map((type, id) => {
      const message = Buffer.alloc(16 + id);
      message.writeUInt32LE(type, 0);
      message.writeUInt32LE(id, 4);
      message.writeUInt32LE(id, 12);
      return message;
    });
    for (const message of messages) transport.send(message);
    const bytes = messages.reduce((sum, { length }) => sum + length, 0);
    await until(() => received.reduce((sum, { length }) => sum + length, 0) === bytes);
    assert.deepEqual(Buffer.concat(received), Buffer.concat(messages));
    await transport.close();
    await transport.close();
    assert.equal(closed, 1);
  },

  async 'xenstore device fails'() {
    const options = { deviceDirectory: directory, xenstorePath: `${directory}/xenbus` };
    const transport = await nativeProvider(options).connectXenstore();
    const error = await new Promise((resolve) => {
      transport.start({ data() {}, close: resolve });
      transport.send(Buffer.alloc(17));
    });
    assert.deepEqual([error.code, error.op, error.path], ['EINVAL', 'xenstore.write', `${directory}/xenbus`]);
  },

  async 'nothing leaked'() {
    const round = async () => {
      const used = useAll();
      await new Promise((resolve) => setImmediate(resolve));
      used.grants.close();
      used.allocator.close();
      used.foreign.close();
      used.events.close();
    };
    await round();
    const before = [openFiles(), mappedPages()];
    for (let i = 0; i < 200; i++) await round();
    assert.deepEqual([openFiles(), mappedPages()], before);
  },

  /** Handles and mappings that were dropped, not closed. */
  async 'nothing leaked to the garbage collector'() {
    const drop = () => useAll().events.listen(undefined);
    drop();
    const before = openFiles();
    for (let i = 0; i < 50; i++) drop();
    for (let i = 0; i < 100 && openFiles() > before; i++) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(openFiles() <= before, `${before} files before, ${openFiles()} after`);
  },

  async 'nothing leaked by worker threads terminated mid-use'() {
    const inWorker = `
      ${useAll}
      const { parentPort, workerData } = require('node:worker_threads');
      const rw = { writable: true };
      let provider;
      import(workerData.module).then(async ({ attachProvider }) => {
        provider = await attachProvider(workerData.data);
        globalThis.used = useAll();
        if (workerData.busy) used.events.listen(() => { for (;;); });
        parentPort.postMessage('in use');
      });`;
    let before;
    for (let i = 0; i < 16; i++) {
      const worker = new Worker(inWorker, { eval: true, workerData: { ...provider.share(), busy: i % 3 === 0 } });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await new Promise((resolve) => setTimeout(resolve, i));
      await worker.terminate();
      // The first worker brings what the process keeps.
      before ??= [openFiles(), mappedPages()];
    }
    assert.deepEqual([openFiles(), mappedPages()], before);
  },

  async 'unref lets the process end'() {
    const events = provider.openEventChannels();
    events.unref();
    events.listen(() => {});
  },

  async 'an error in the listener is an uncaught exception'() {
    const events = provider.openEventChannels();
    events.bindInterdomain(0, events.bindUnbound(0));
    events.listen(() => {
      throw new Error('from the listener');
    });
    const [error] = await new Promise((resolve) => process.once('uncaughtException', (...args) => resolve(args)));
    assert.equal(error.message, 'from the listener');
    events.close();
  },

  async 'no permission'() {
    throws(() => provider.openGrantTable(), 'EACCES');
    assert.throws(() => provider.openGrantTable(), /gntdev: EACCES, no permission.*DeviceAllow=/);
    assert.equal(provider.features.grantCopy, false);
  },
};

await scenarios[process.argv[2]]();
