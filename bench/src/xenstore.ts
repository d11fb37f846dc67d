/**
 * node dist/xenstore.js [--quick] [--json FILE]: this client against libxenstore in C, on the same genuine xenstored.
 * Rounds of both alternate. The fastest of each counts, because other work of the machine only ever adds time.
 */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { XenstoreClient } from '@xenpv/xenstore';
import { GenuineServer } from '@xenpv/xenstore/testing';

const run = promisify(execFile);
const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } } });
const rounds = values.quick ? 3 : 9;
const count = values.quick ? 2000 : 10_000;

const SOURCE = fileURLToPath(new URL('../src/xenstore/serial.c', import.meta.url));
const NODE = '/bench/node';
/** Requests in flight at once when they are pipelined. */
const DEPTHS = [8, 64, 512];

type Measure = () => Promise<number>;

const missing =
  GenuineServer.missing('xenstored') ??
  (existsSync('/usr/include/xenstore.h') ? undefined : 'needs xenstore.h (Debian: apt-get install libxen-dev)');
console.log('xenstore: this client against libxenstore, on a genuine C xenstored');
if (missing !== undefined) console.log(`  skipped: ${missing}`);
const results = missing === undefined ? await compare() : {};
if (values.json) writeFileSync(values.json, `${JSON.stringify(results)}\n`);

async function compare(): Promise<Record<string, number>> {
  await using server = await GenuineServer.start('xenstored');
  const program = join(server.directory, 'xenstore-serial');
  await run('cc', ['-O2', '-o', program, SOURCE, '-lxenstore']);
  const env = { ...process.env, XENSTORED_PATH: server.socketPath };
  const library = (mode: string) => async () => Number((await run(program, [mode, String(count)], { env })).stdout);
  await using store = await XenstoreClient.connect({ path: server.socketPath });

  const results: Record<string, number> = {};
  const modes: [string, () => Promise<void>][] = [
    ['read', async () => void (await store.read(NODE))],
    ['write', () => store.write(NODE, '0123456789')],
    ['transaction', () => addOne(store)],
  ];
  for (const [mode, once] of modes) {
    const [theirs, ours] = await alternate(library(mode), () => serial(once));
    row(`${mode}, one after the other`, ours, theirs);
    results[`xenstore_serial_${mode}_vs_libxenstore`] = ratio(ours, theirs);
  }
  const [theirs, ours] = await alternate(library('watch'), () => watchRoundTrips(store));
  row('watch: from a write to its event', ours, theirs);
  results.xenstore_watch_vs_libxenstore = ratio(ours, theirs);
  for (const depth of DEPTHS) {
    const [serialRead, pipelined] = await alternate(library('read'), () => inParallel(store, depth));
    row(`read, ${depth} at once`, pipelined, serialRead);
    results[`xenstore_pipelined_${depth}_rate_vs_libxenstore_serial`] = ratio(serialRead, pipelined);
  }
  return results;
}

function addOne(store: XenstoreClient): Promise<void> {
  return store.transaction(async (tx) => {
    const before = Number(await tx.read(NODE));
    await tx.write(NODE, (before + 1) % 1_000_000);
  });
}

/** Nanoseconds for one. */
async function serial(once: () => Promise<void>): Promise<number> {
  for (let i = 0; i < count / 10; i++) await once();
  const from = performance.now();
  for (let i = 0; i < count; i++) await once();
  return ((performance.now() - from) * 1e6) / count;
}

async function watchRoundTrips(store: XenstoreClient): Promise<number> {
  const watch = await store.watch(NODE);
  await watch.next();
  const nanoseconds = await serial(async () => {
    await Promise.all([store.write(NODE, '0123456789'), watch.next()]);
  });
  await watch.close();
  return nanoseconds;
}

/** Nanoseconds for one read, with `depth` in flight. */
async function inParallel(store: XenstoreClient, depth: number): Promise<number> {
  const each = Math.ceil((count * 4) / depth);
  const from = performance.now();
  await Promise.all(
    Array.from({ length: depth }, async () => {
      for (let i = 0; i < each; i++) await store.read(NODE);
    }),
  );
  return ((performance.now() - from) * 1e6) / (each * depth);
}

async function alternate(theirs: Measure, ours: Measure): Promise<[number, number]> {
  const results: [number, number][] = [];
  for (let round = 0; round < rounds; round++) results.push([await theirs(), await ours()]);
  return [Math.min(...results.map(([first]) => first)), Math.min(...results.map(([, second]) => second))];
}

function ratio(value: number, of: number): number {
  return Number((value / of).toFixed(2));
}

function row(name: string, ours: number, theirs: number): void {
  const microseconds = (value: number) => `${(value / 1000).toFixed(1)} µs`;
  const times = `${(ours / theirs).toFixed(2)} of its time, ${(theirs / ours).toFixed(2)} of its rate`;
  console.log(
    `  ${name.padEnd(34)} ${microseconds(ours).padStart(10)}  libxenstore ${microseconds(theirs)}  (${times})`,
  );
}
