/** The suite that every provider passes, over the real Xen: dom0 with itself, xenstore over both of its ways. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { nativeProvider } from '../../repo/packages/xen-sys/dist/index.js';
import { testProvider } from '../../repo/packages/xen-sys/dist/testing.js';
import { group, test } from '../dom0/registry.mjs';
import { sh } from '../dom0/shell.mjs';

const openFiles = () => readdirSync('/proc/self/fd').length;
const openPorts = async () => Number(await sh('lsevtchn 0 | wc -l'));

function suite(options) {
  const domain = { domid: 0, provider: nativeProvider(options) };
  const tests = [];
  const make = async () => {
    const before = openFiles();
    const leaks = () => (openFiles() > before + 2 ? [`${openFiles() - before} files`] : []);
    return { backend: domain, frontend: domain, leaks, close() {} };
  };
  let inGroup = '';
  testProvider('native', make, {
    describe: (name, body) => {
      inGroup = name;
      body();
    },
    it: (name, run) => tests.push(test(`${inGroup}: ${name}`, run)),
  });
  return tests;
}

async function setup(context) {
  context.ports = await openPorts();
}

const MODULE = new URL('../../repo/packages/xen-sys/dist/index.js', import.meta.url).href;
/** A thread that has everything in use: events in flight, pages granted and mapped. */
const BUSY = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData).then(({ nativeProvider }) => {
    const xen = nativeProvider();
    const events = xen.openEventChannels();
    const near = events.bindUnbound(0);
    const far = events.bindInterdomain(0, near);
    events.listen((ports, count) => {
      events.unmask(ports, count);
      events.notify(near);
      events.notify(far);
    });
    const pages = xen.openGrantAllocator().allocate(0, 4, { writable: true });
    const mapping = xen.openGrantTable().map(0, pages.refs, { writable: true });
    globalThis.used = { events, pages, mapping };
    parentPort.postMessage('in use');
  });`;

async function terminated() {
  const worker = new Worker(BUSY, { eval: true, workerData: MODULE });
  await once(worker, 'message');
  await sleep(20);
  await worker.terminate();
}

/** gntalloc's pages are limited, 1024 for the domain: mappings left behind would use them up. */
async function terminatedWorkers({ ports }) {
  await terminated();
  const before = openFiles();
  for (let i = 0; i < 5; i++) await terminated();
  assert.ok(openFiles() <= before, 'no file is left');
  await nothingLeft({ ports });
  const allocator = nativeProvider().openGrantAllocator();
  allocator.allocate(0, 1000, { writable: true });
  allocator.close();
}

async function missingModule() {
  await sh('modprobe -r xen-gntalloc');
  try {
    assert.throws(() => nativeProvider().openGrantAllocator(), {
      name: 'XenSysError',
      code: 'ERR_NO_DEVICE',
      path: '/dev/xen/gntalloc',
      message: /kernel module xen-gntalloc \(package linux-image-\w+\) is not loaded/,
    });
  } finally {
    await sh('modprobe xen-gntalloc');
  }
}

/** What the hypervisor itself says, when all is closed. */
async function nothingLeft({ ports }) {
  const now = await openPorts();
  if (now > ports) throw new Error(`${now - ports} event channels left`);
}

const all = suite({});
group('provider', { setup }, [
  ...all,
  test('no event channel is left', nothingLeft),
  test('worker threads terminated mid-use leave nothing', terminatedWorkers),
  test('a module that is not loaded is named', missingModule),
]);
const overDevice = suite({ xenstorePath: '/dev/xen/xenbus' }).filter(({ name }) => name.startsWith('xenstore: a '));
group('provider over /dev/xen/xenbus', {}, overDevice);
