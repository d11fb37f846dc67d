import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { EmulatedHost } from '@xenpv/emulator';
import type { XenBlockBackendOptions } from '@xenpv/xen-block';
import { XenstoreClient } from '@xenpv/xenstore';
import type { GuestPlan, GuestReport } from '../guest/plan.js';
import { moveRings, takeOver } from './disturb.js';
import { type RunningGuests, runHere, runOnThread } from './guest-threads.js';
import { PlaneWatch } from './plane-watch.js';
import { processorShare } from './processor-share.js';
import { ServedBackend } from './served-backend.js';
import { plansOf, type Setup } from './setup.js';
import { Storage } from './storage.js';
import { allNodes, checkProcess, hostTraces, moreThan, processTraces } from './traces.js';
import { HostWorld, targetOf } from './world.js';

const UNLIMITED = { burst: Number.POSITIVE_INFINITY, perSecond: Number.POSITIVE_INFINITY };
const MIB = 2 ** 20;
/** Where storage hangs, for longer than that. */
const LET_GO_MS = 100;
const STOP_MS = 200;
/** Of each disk: a line of each kind a second, and some for each connection. */
const LINES_A_SECOND = 20;
const LINES_A_LIFE = 40;
/** On average, as JSON. */
const LINE_BYTES = 1000;

export interface RoundResult {
  /** Of hostile guests. */
  readonly answered: number;
  /** Of the victim. */
  readonly verified: number;
  readonly lives: number;
  /** Connections that the backend refused. */
  readonly refused: number;
  /** How often a ring was detached and attached again. */
  readonly moves: number;
  /** How often a backend took over from another. */
  readonly takeOvers: number;
  /** Requests that were in flight when a backend's process ended. */
  readonly leftInFlight: number;
  /** How often it was checked that nothing is left to do that nobody will be woken for. */
  readonly checks: number;
  readonly logged: number;
  readonly victim: GuestReport['latency'];
  /** Which part of the time that it wanted the processor the backend's thread had it. */
  readonly share: number;
  readonly seconds: number;
}

/** What a test puts in place of the backend's own parts. */
export interface Tampering {
  readonly options?: (options: XenBlockBackendOptions) => XenBlockBackendOptions;
}

/** Rejects with what went wrong: a wrong answer, a ring that does not go on, something that was left behind. */
export async function runRound(setup: Setup, tampering: Tampering = {}): Promise<RoundResult> {
  const began = performance.now();
  const before = processTraces();
  const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-hostile-'));
  const burners = Array.from({ length: setup.burners }, () => new Worker('for (;;);', { eval: true }));
  using watch = new PlaneWatch({ scribbled: setup.scribbles });
  try {
    const counts = await serve(setup, folder, watch, tampering);
    // What a process that has ended had is gone with it, which is only played here.
    if (counts.leftInFlight === 0) await checkProcess(before);
    const seconds = (performance.now() - began) / 1000;
    checkLog(watch, counts.lives + counts.moves + counts.takeOvers * plansOf(setup).length, setup, seconds);
    return { ...counts, checks: watch.checks, logged: watch.logged, seconds };
  } finally {
    await Promise.all(burners.map((burner) => burner.terminate()));
    rmSync(folder, { recursive: true });
  }
}

async function serve(setup: Setup, folder: string, watch: PlaneWatch, tampering: Tampering) {
  const plans = plansOf(setup);
  const journals = journalsIn(folder);
  mkdirSync(journals);
  const storage = new Storage(setup, folder);
  const xen = await EmulatedHost.create({ toolstackTimeoutMs: setup.patienceSeconds * 1000 });
  const store = XenstoreClient.open(xen.xenstored.connect(0));
  const options = backendOptions(setup, storage, xen, store, folder);
  const served = await ServedBackend.start({
    options: tampering.options?.(options) ?? options,
    patienceSeconds: setup.patienceSeconds,
    died: setup.hangs && setup.takeOvers ? () => storage.userDies() : undefined,
  });
  const worldOf = (plan: GuestPlan) =>
    new HostWorld({ xen, backend: () => served.backend, plan, gone: () => storage.endLife(targetOf(plan)) });
  for (const plan of plans) await worldOf(plan).makeDomain();
  const domids = plans.map(({ domid }) => domid);
  const before = hostTraces(xen, domids);
  const nodes = await allNodes(store);
  const shareOf = processorShare();
  const guests = run(setup, xen, plans, worldOf);
  const ended = new AbortController();
  try {
    const moving = setup.moves ? moveRings(served, setup, ended.signal) : 0;
    const takingOver = setup.takeOvers ? takeOver(served, setup, ended.signal) : 0;
    const reports = await Promise.race([allReports(guests), watch.broken, served.failed]);
    ended.abort();
    const moves = await moving;
    const takeOvers = await takingOver;
    await Promise.all(guests.map((one) => one.terminate()));
    for (const [i, plan] of plans.entries()) await checkDisk(storage, plan, reports[i]);
    const share = shareOf();
    checkVictim(reports[0], setup, share);
    for (const plan of plans) await worldOf(plan).makeDomain();
    const more = moreThan(before, hostTraces(xen, domids));
    if (more !== undefined) throw new Error(`something was left behind: ${more}`);
    await checkNodes(nodes, store);
    // A disk may have gone when no backend was there: what is left of it is the next one's to remove.
    if (setup.takeOvers) await served.takeOver();
    await served.close();
    checkJournals(journals);
    return { ...sum(reports), moves, takeOvers, share, leftInFlight: storage.leftInFlight };
  } finally {
    ended.abort();
    await Promise.all(guests.map((one) => one.terminate()));
    // After a failure there may be rings that never end: their domains go first.
    await Promise.all(xen.domains.map((domain) => domain.destroy()));
    await served.close().catch(() => {});
    storage.bury();
    await storage.close();
    await store.close();
    await xen.close();
  }
}

async function checkNodes(before: readonly string[], store: XenstoreClient): Promise<void> {
  const after = await allNodes(store);
  if (after.length === before.length && after.every((path) => before.includes(path))) return;
  const more = after.filter((path) => !before.includes(path));
  throw new Error(`nodes were left behind, ${before.length} before, ${after.length} after: ${more.join(' ')}`);
}

function journalsIn(folder: string): string {
  return join(folder, 'journals');
}

function backendOptions(
  setup: Setup,
  storage: Storage,
  xen: EmulatedHost,
  store: XenstoreClient,
  folder: string,
): XenBlockBackendOptions {
  const victim = targetOf(plansOf(setup)[0]);
  return {
    provider: xen.provider(0),
    store,
    openImage: ({ target }) => storage.open(target, { good: target === victim }),
    threads: setup.threads,
    memoryBytes: setup.memoryMiB * MIB,
    dataPath: setup.transfer,
    sectorSize: setup.sectorPolicy,
    pollMicroseconds: setup.pollMicroseconds,
    // As many reconnections as there can be.
    guestPaces: { looks: UNLIMITED, steps: UNLIMITED },
    limits: { maxQueues: 4, maxIndirectSegments: setup.maxIndirectSegments },
    ...(setup.hangs ? { letGoMs: LET_GO_MS, stopTimeoutMs: STOP_MS } : {}),
    ...(setup.takeOvers ? { journalDirectory: journalsIn(folder) } : {}),
    ...(setup.transfer === 'persistent' ? { persistentPages: setup.persistentPages } : {}),
  };
}

/** The victim and the others, on threads of their own or all here. */
function run(
  { guestThreads, races }: Setup,
  xen: EmulatedHost,
  plans: readonly GuestPlan[],
  worldOf: (plan: GuestPlan) => HostWorld,
): RunningGuests[] {
  const start = guestThreads === 0 ? runHere : runOnThread;
  return [start(xen, plans.slice(0, 1), worldOf, false), start(xen, plans.slice(1), worldOf, races)];
}

/** The victim goes on until the others have ended. */
async function allReports([victim, others]: readonly RunningGuests[]): Promise<GuestReport[]> {
  victim.reports.catch(() => {});
  const reports = await Promise.race([others.reports, victim.reports.then(() => new Promise<never>(() => {}))]);
  victim.stop();
  return [...(await victim.reports), ...reports];
}

function sum(reports: readonly GuestReport[]) {
  const [victim, ...hostile] = reports;
  const total = (key: 'answered' | 'lives' | 'refused') => hostile.reduce((all, report) => all + report[key], 0);
  const counts = { answered: total('answered'), lives: total('lives'), refused: total('refused') };
  return { ...counts, verified: victim.answered, victim: victim.latency };
}

async function checkDisk(storage: Storage, plan: GuestPlan, { state, answered }: GuestReport): Promise<void> {
  if (answered === 0) return;
  const sector = await storage.firstWrong(targetOf(plan), state);
  if (sector >= 0) throw new Error(`the disk of ${plan.name} is wrong from sector ${sector} on`);
}

/**
 * The victim is not asked to be quick on a machine that others use: of its p99 counts the share of the processor that this
 * thread has had. While a backend takes over, which may start threads, nobody has an answer.
 */
function checkVictim({ latency, answered }: GuestReport, setup: Setup, share: number): void {
  if (answered === 0) throw new Error('the victim had no answer');
  const { victimMs, takeOvers, patienceSeconds } = setup;
  const counts = latency.p99 * share;
  if (counts <= (takeOvers ? patienceSeconds * 1000 : victimMs)) return;
  const ofIt = `of which ${counts.toFixed(1)} count, with ${Math.round(100 * share)} % of the processor`;
  throw new Error(`the victim is starved: its p99 is ${latency.p99.toFixed(1)} ms, ${ofIt}`);
}

/** `attached`: how often rings were attached, each of which has lines of its own. */
function checkLog({ logged, loggedBytes }: PlaneWatch, attached: number, { guests }: Setup, seconds: number): void {
  const most = LINES_A_LIFE * (attached + 1) + LINES_A_SECOND * (guests + 1) * (seconds + 1);
  if (logged > most) throw new Error(`${logged} lines in the log; expected at most ${Math.round(most)}`);
  if (loggedBytes > most * LINE_BYTES) {
    throw new Error(`${loggedBytes} bytes in the log; expected at most ${Math.round(most * LINE_BYTES)}`);
  }
}

/** With takeovers, of disks that are gone. */
function checkJournals(directory: string): void {
  const left = readdirSync(directory);
  if (left.length > 0) throw new Error(`files were left behind: ${left.join(' ')}`);
}
