/**
 * node dist/restart.js [options]: the pause that guests see when the daemon is started anew. A host in a folder, guests that
 * read a page now and then, and the built program as a process of its own: killed, or stopped as planned, and started at
 * once. What counts is the longest read of each guest in each restart.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { EmulatedHost } from '@xenpv/emulator';
import { helpersOf, missingFor } from './crash/storage/images.js';
import type { RestartAsk } from './threads/restart-guest.js';

const USAGE = `usage: node bench/dist/restart.js [options]

  --disks LIST   how many disks, with commas: 1,10,100
  --restarts N   of each kind, for each number of disks; 20
  --program LIST the daemon's main.js, of several builds with commas, which take turns; this clone's
  --threads N    of the daemon; 0
  --format NAME  of the images: raw, or qcow2, each of which has a storage helper; raw
  --quick        1 and 10 disks, 5 restarts
  --json FILE    writes results to FILE
  --help         this text
`;

const STRING = { type: 'string' } as const;
const BOOLEAN = { type: 'boolean', default: false } as const;
const { values } = parseArgs({
  options: {
    disks: STRING,
    restarts: STRING,
    program: STRING,
    threads: STRING,
    format: STRING,
    json: STRING,
    quick: BOOLEAN,
    help: BOOLEAN,
  },
});

const OWN = fileURLToPath(new URL('../../apps/xen-blockd/dist/main.js', import.meta.url));
const PROGRAMS = (values.program ?? OWN).split(',').map((path) => resolve(path));
const RESTARTS = Number(values.restarts ?? (values.quick ? 5 : 20));
const DISKS = (values.disks ?? (values.quick ? '1,10' : '1,10,100')).split(',').map(Number);
const FORMATS = ['raw', 'qcow2'] as const;
/** Undefined: what was asked for is none. */
const ASKED_FORMAT = FORMATS.find((name) => name === (values.format ?? 'raw'));
const FORMAT = ASKED_FORMAT ?? 'raw';
const IMAGE_BYTES = 1 << 20;
const MEMORY_MIB = 2;
/** Between restarts: the daemon is at rest again. */
const CALM_MS = 300;
/** By then a program has kept its compiled code for the next start, which counts. */
const WARM_MS = 6000;

/** A service has little; a NODE_EXTRA_CA_CERTS of the caller alone would cost the daemon 40 ms of processor time. */
const SERVICE_ENV = { PATH: process.env.PATH };

const KINDS = { killed: 'SIGKILL', planned: 'SIGTERM' } as const;
type Kind = keyof typeof KINDS;

/** What one restart has cost. */
interface Restart {
  /** The longest read of each guest, in milliseconds. */
  readonly pauses: readonly number[];
  /** From the start of the process to its line `ready`, in milliseconds. */
  readonly ready: readonly number[];
  /** The processor time of all of its threads until then, in milliseconds. */
  readonly processor: readonly number[];
  /** What the process has in memory when it is at rest again, in MiB. */
  readonly memory: readonly number[];
}

class Bench {
  readonly #directory: string;
  readonly #host: EmulatedHost;
  #guests: Worker | undefined;
  #daemon: ChildProcess | undefined;

  private constructor(directory: string, host: EmulatedHost) {
    this.#directory = directory;
    this.#host = host;
  }

  static async start(disks: number): Promise<Bench> {
    const directory = mkdtempSync('/dev/shm/xen-restart-');
    const host = await EmulatedHost.create({ directory, memoryMiB: 64, xenstored: { quotas: { nodes: 100_000 } } });
    const bench = new Bench(directory, host);
    await bench.#startDaemon(PROGRAMS[0]);
    await bench.#startGuests(disks);
    return bench;
  }

  async warm(program: string): Promise<void> {
    await this.restart('planned', program);
    await new Promise((resolve) => setTimeout(resolve, WARM_MS));
  }

  async restart(kind: Kind, program: string): Promise<Restart> {
    this.#tell('round');
    const ended = once(this.#daemon!, 'exit');
    this.#daemon!.kill(KINDS[kind]);
    await ended;
    const began = performance.now();
    await this.#startDaemon(program);
    const [ready, processor] = [performance.now() - began, processorMs(this.#daemon!.pid!)];
    const answer = once(this.#guests!, 'message');
    this.#tell('served');
    const [pauses] = (await answer) as [number[]];
    await new Promise((resolve) => setTimeout(resolve, CALM_MS));
    return { pauses, ready: [ready], processor: [processor], memory: [residentMiB(this.#daemon!.pid!)] };
  }

  async close(): Promise<void> {
    await this.#guests?.terminate();
    this.#daemon?.kill('SIGKILL');
    await this.#host.close();
    // They outlive a daemon that is killed.
    for (const pid of helpersOf(this.#directory)) process.kill(pid, 'SIGKILL');
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #tell(ask: RestartAsk): void {
    this.#guests!.postMessage(ask);
  }

  async #startDaemon(program: string): Promise<void> {
    const args = ['run', '--emulator', this.#directory, '--log-format', 'json', '--threads', values.threads ?? '0'];
    const daemon = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: SERVICE_ENV,
    });
    this.#daemon = daemon;
    let log = '';
    await new Promise<void>((resolve, reject) => {
      daemon.stderr.on('data', (chunk) => {
        log += chunk;
        if (log.includes('"ready"')) resolve();
      });
      daemon.once('exit', () => reject(new Error(`the daemon ended:\n${log}`)));
    });
    daemon.removeAllListeners('exit');
  }

  async #startGuests(disks: number): Promise<void> {
    const guests: unknown[] = [];
    for (let n = 0; n < disks; n++) {
      const target = join(this.#directory, `image-${n}`);
      createImage(target);
      const domain = await this.#host.createDomain({ name: `guest-${n}`, memoryMiB: MEMORY_MIB });
      await this.#host.toolstack.attachDisk(domain.domid, { vdev: 'xvda', target, format: FORMAT });
      guests.push(domain.share().data);
    }
    this.#guests = new Worker(new URL('./threads/restart-guest.js', import.meta.url), { workerData: { guests } });
    await once(this.#guests, 'message');
  }
}

function createImage(path: string): void {
  if (FORMAT === 'raw') {
    writeFileSync(path, '');
    truncateSync(path, IMAGE_BYTES);
  } else execFileSync('qemu-img', ['create', '-q', '-f', FORMAT, path, String(IMAGE_BYTES)]);
}

/** The value that `share` of all are not above. */
function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];
}

async function measure(disks: number, results: Record<string, number>): Promise<void> {
  const bench = await Bench.start(disks);
  const measured = PROGRAMS.flatMap((program, index) =>
    (['killed', 'planned'] as const).map((kind) => ({ kind, program, index, restarts: [] as Restart[] })),
  );
  try {
    for (const program of PROGRAMS) await bench.warm(program);
    // In turns, so that what else the machine does falls on all.
    for (let n = 0; n < RESTARTS; n++) {
      for (const { kind, program, restarts } of measured) restarts.push(await bench.restart(kind, program));
    }
  } finally {
    await bench.close();
  }
  for (const { kind, index, restarts } of measured) {
    const of = (column: keyof Restart) => restarts.flatMap((restart) => restart[column]).sort((a, b) => a - b);
    const pauses = of('pauses');
    const figures = {
      p50_ms: quantile(pauses, 0.5),
      p99_ms: quantile(pauses, 0.99),
      max_ms: quantile(pauses, 1),
      ready_ms: quantile(of('ready'), 0.5),
      processor_ms: quantile(of('processor'), 0.5),
      memory_mib: quantile(of('memory'), 0.5),
    };
    const texts = Object.entries(figures).map(
      ([name, value]) => `${name.replace('_', ' ')} ${value.toFixed(0).padStart(4)}`,
    );
    const which = PROGRAMS.length === 1 ? '' : ` #${index + 1}`;
    console.log(`  ${kind.padEnd(8)} ${String(disks).padStart(4)} disks${which}   ${texts.join('   ')}`);
    for (const [name, value] of Object.entries(figures)) {
      const of = FORMAT === 'raw' ? '' : `_${FORMAT}`;
      results[`restart${of}_${kind}_${disks}_disks${which.replace(' #', '_')}_${name}`] = Math.round(value);
    }
  }
}

/** What all threads of a process have used, in milliseconds: the first number of proc(5)'s schedstat, in nanoseconds. */
function processorMs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const used = readdirSync(tasks).map((task) =>
    Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]),
  );
  return used.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6;
}

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Why this format cannot be measured, or undefined. */
function unusableFormat(): string | undefined {
  if (!ASKED_FORMAT) return `--format is ${values.format}; expected ${FORMATS.join(', ')}`;
  return FORMAT === 'raw' ? undefined : missingFor(FORMAT);
}

const refused = unusableFormat();
if (values.help) {
  process.stdout.write(USAGE);
} else if (refused !== undefined) {
  console.error(refused);
  process.exitCode = 2;
} else {
  const results: Record<string, number> = {};
  console.log(`the longest read of each guest, over ${RESTARTS} restarts of each kind, with ${FORMAT} images`);
  for (const disks of DISKS) await measure(disks, results);
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results)}\n`);
}
