import { execFile } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EmulatedHost } from '@xenpv/emulator';
import { QmpClient } from '@xenpv/qmp';
import { ownFolder } from '@xenpv/test-support/own-folder';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { XenstoreClient } from '@xenpv/xenstore';
import { Random } from '../program/random.js';
import { CrashGuest, GUEST_HAPPENINGS, type GuestHappening } from './crash-guest.js';
import type { DaemonOptions } from './daemon.js';
import { DriveGuest } from './drive-guest.js';
import { type GuestFigures, KINDS, type Kind } from './figures.js';
import { SECTOR } from './model.js';
import type { Setup } from './setup.js';
import { type CrashImage, createImage, helpersOf } from './storage/images.js';
import { Watch } from './watch.js';

const SECTORS = 8192;
const ROOM = 2 * SECTORS;
const LOOK_MS = 100;
/** How many sectors broken storage loses. */
const LOST_SECTORS = 200;
/** A guest's pauses between what happens to it. Helpers': one that is killed at each start for half a minute is a refusal. */
const HAPPENING_MS = { seldom: 8000, often: 400, helpers: 2000, snapshots: 1500, backups: 1500, limits: 1000 };
/** Of one image: each start of its helper opens all of them. */
const MOST_SNAPSHOTS = 30;
const TRIES = 30;
const TRY_PAUSE_MS = 50;
/** Operations a second: more than guests have, so that only their being noted and read again is tried. */
const LEAST_IOPS = 100_000;
const MOST_IOPS = 1_000_000;

/** What happens besides the kills. */
export const HAPPENINGS = [...GUEST_HAPPENINGS, 'medium', 'helper', 'snapshot', 'backup', 'limits'] as const;
/** Those of a guest's disk: others have a course of their own. */
const isOfGuest = (what: Happening): what is GuestHappening => (GUEST_HAPPENINGS as readonly string[]).includes(what);
export type Happening = (typeof HAPPENINGS)[number];

export interface CrashHostOptions {
  readonly setup: Setup;
  /** Where images, logs and the host's folder go. */
  readonly folder: string;
  readonly happenings: readonly Happening[];
  /** How old anything that is waited for may become. */
  readonly patienceMs: number;
}

interface Parts {
  readonly host: EmulatedHost;
  readonly hostFolder: string;
  readonly images: readonly CrashImage[];
  readonly devices: ThrottledDevices;
}

/** What the guests have done. */
export interface GuestResult {
  readonly operations: Record<Kind, number>;
  /** Bytes that were read and compared. */
  readonly verified: number;
  readonly happenings: number;
  readonly problems: readonly string[];
}

/** An emulated host in a folder, guests on it that verify what they read, and what happens to them. */
export class CrashHost {
  readonly host: EmulatedHost;
  readonly watch: Watch;
  readonly #options: CrashHostOptions;
  readonly #log: number;
  /** Where the host is. */
  readonly hostFolder: string;
  readonly #images: readonly CrashImage[];
  readonly #devices: ThrottledDevices;
  readonly #guests: readonly CrashGuest[];
  readonly #drive: DriveGuest;
  readonly #looking: NodeJS.Timeout;
  #happenings = 0;
  /** How many there may be, by image. */
  readonly #snapshots = new Map<string, number>();

  static async prepare(options: CrashHostOptions): Promise<CrashHost> {
    mkdirSync(options.folder, { recursive: true });
    const hostFolder = ownFolder('/dev/shm', 'xen-crash');
    const host = await EmulatedHost.create({ directory: hostFolder, toolstackTimeoutMs: options.patienceMs });
    const images: CrashImage[] = [];
    const devices = new ThrottledDevices(`xen-crash-${process.pid}`);
    for (const [number, { storage }] of options.setup.guests.entries()) {
      const path = join(options.folder, `image-${number}`);
      images.push(await createImage(storage, { path, sectors: SECTORS, devices }));
    }
    return new CrashHost(options, { host, hostFolder, images, devices });
  }

  private constructor(options: CrashHostOptions, { host, hostFolder, images, devices }: Parts) {
    this.#options = options;
    this.#log = openSync(join(options.folder, 'events.log'), 'w');
    const began = performance.now();
    this.watch = new Watch((line) => {
      writeSync(this.#log, `${((performance.now() - began) / 1000).toFixed(3)} ${line}\n`);
    });
    this.host = host;
    this.hostFolder = hostFolder;
    this.#images = images;
    this.#devices = devices;
    const random = new Random(options.setup.seed ^ 0xc4a5);
    const { watch } = this;
    const common = { host, watch, sectors: SECTORS, room: ROOM, refresh: () => this.#refresh() };
    const drawn = () => new Random(random.below(2 ** 31));
    this.#guests = options.setup.guests.map(
      (setup, number) => new CrashGuest({ ...common, number, setup, image: images[number], random: drawn() }),
    );
    this.#drive = new DriveGuest({ host, folder: options.folder, random: drawn(), watch });
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
  }

  /** How the daemon is started that serves this host. */
  get daemon(): Omit<DaemonOptions, 'number'> {
    const { setup, folder } = this.#options;
    const config = join(folder, 'xen-blockd.toml');
    writeFileSync(config, 'max-queues = 4\nmax-ring-page-order = 4\nmax-indirect-segments = 64\n');
    return {
      directory: this.hostFolder,
      engine: setup.engine,
      threads: setup.threads,
      args: ['--config', config, '--transfer', setup.transfer],
      logs: join(folder, 'logs'),
      spawned: (pid) => this.#devices.add(pid),
    };
  }

  /** Resolves when all disks are connected. */
  async boot(): Promise<void> {
    await Promise.all([...this.#guests.map((guest) => guest.boot()), this.#drive.boot()]);
  }

  /** Things happen until `ending`; resolves when what has begun then is over. */
  async happen(ending: AbortSignal): Promise<void> {
    const { setup, happenings } = this.#options;
    // Another course of things for each call.
    const seed = setup.seed + this.#happenings;
    const again = (random: Random, pauseMs: number, happens: () => Promise<void>) =>
      this.#again({ random, pauseMs, happens, ending });
    const ofGuests = happenings.filter(isOfGuest);
    const guests = ofGuests.length === 0 ? [] : this.#guests;
    const running = guests.map((guest, number) => {
      const random = new Random(seed + number);
      const pauseMs = number === this.#guests.length - 1 ? HAPPENING_MS.often : HAPPENING_MS.seldom;
      return again(random, pauseMs, () => guest.happen(random.pick(ofGuests)));
    });
    if (happenings.includes('medium')) {
      running.push(again(new Random(seed), HAPPENING_MS.often, () => this.#drive.change()));
    }
    if (happenings.includes('helper') && setup.guests.some(({ storage }) => storage === 'qcow2')) {
      const random = new Random(~seed);
      running.push(again(random, HAPPENING_MS.helpers, async () => this.#killHelper(random)));
    }
    if (happenings.includes('snapshot') && setup.guests.some(({ storage }) => storage === 'qcow2')) {
      const random = new Random(seed ^ 0x5a9);
      running.push(again(random, HAPPENING_MS.snapshots, () => this.#snapshot(random)));
    }
    if (happenings.includes('backup') && setup.guests.some(({ storage }) => storage === 'qcow2')) {
      const random = new Random(seed ^ 0xbac);
      running.push(again(random, HAPPENING_MS.backups, () => this.#backup(random)));
    }
    if (happenings.includes('limits')) {
      const random = new Random(seed ^ 0x117);
      running.push(again(random, HAPPENING_MS.limits, () => this.#limit(random)));
    }
    await Promise.all(running);
  }

  /** Each guest reads all of its disk and closes it. */
  async finish(): Promise<void> {
    await Promise.all([...this.#guests.map((guest) => guest.finish()), this.#drive.finish()]);
  }

  /** Compares the images, when nobody uses them any more. */
  async verify(): Promise<void> {
    for (const guest of this.#guests) await guest.verify();
    // What is being made has a name of the moment, which begins with a dot.
    const left = namesIn(this.#options.folder).filter((name) => name.startsWith('.'));
    if (left.length > 0) this.watch.fail(`half-done files are left: ${left.join(', ')}`);
  }

  /** Ends the guests as they are. */
  async abandon(): Promise<void> {
    for (const guest of [...this.#guests, this.#drive]) await guest.abandon();
  }

  /** Ends the host, after its daemon. The folder stays when there was a problem. */
  async close(): Promise<void> {
    for (const pid of this.helpers) endProcess(pid);
    await this.host.close();
    for (const image of this.#images) await image[Symbol.asyncDispose]();
    this.#devices[Symbol.dispose]();
    clearInterval(this.#looking);
    closeSync(this.#log);
    rmSync(this.hostFolder, { recursive: true, force: true });
    if (this.watch.problems.length === 0) rmSync(this.#options.folder, { recursive: true, force: true });
  }

  /** The processes of storage helpers. */
  get helpers(): readonly number[] {
    return helpersOf(this.hostFolder);
  }

  get figures(): readonly GuestFigures[] {
    return [...this.#guests, this.#drive].map(({ figures }) => figures);
  }

  result(): GuestResult {
    const { figures } = this;
    const operations = Object.fromEntries(
      KINDS.map((kind) => [kind, figures.reduce((sum, guest) => sum + guest.countOf(kind), 0)]),
    ) as Record<Kind, number>;
    const verified = figures.reduce((sum, guest) => sum + guest.verified, 0);
    return { operations, verified, happenings: this.#happenings, problems: this.watch.problems };
  }

  /** The oldest thing that is waited for: an answer, or what the host or a guest waits for. */
  oldest(): { readonly what: string; readonly ms: number } {
    let oldest = this.watch.oldest();
    for (const { name, figures } of [...this.#guests, this.#drive]) {
      if (figures.oldest > oldest.ms) oldest = { what: `${name}: an answer`, ms: figures.oldest };
    }
    return oldest;
  }

  /** The journal is lost. */
  loseJournal(): void {
    rmSync(join(this.hostFolder, 'journal'), { recursive: true, force: true });
  }

  /** Some sectors of the first image are lost. */
  loseSectors(random: Random): void {
    const image = openSync(join(this.#options.folder, 'image-0'), 'r+');
    for (let i = 0; i < LOST_SECTORS; i++) {
      writeSync(image, Buffer.alloc(SECTOR), 0, SECTOR, SECTOR * random.below(SECTORS));
    }
    closeSync(image);
  }

  /** What the store and the journal held when it failed. */
  async keepEvidence(): Promise<void> {
    const { problems } = this.watch;
    if (problems.length === 0) return;
    writeFileSync(join(this.#options.folder, 'problems.txt'), `${problems.join('\n')}\n`);
    const store = XenstoreClient.open(this.host.xenstored.connect(0));
    const lines: string[] = [];
    await listTree(store, '/local/domain', lines);
    writeFileSync(join(this.#options.folder, 'xenstore.txt'), `${lines.join('\n')}\n`);
    await store.close();
    const journal = join(this.hostFolder, 'journal');
    const kept = join(this.#options.folder, 'journal');
    mkdirSync(kept, { recursive: true });
    for (const name of namesIn(journal)) writeFileSync(join(kept, name), readFileSync(join(journal, name)));
  }

  /** Of some qcow2 image, or it fetches all that its snapshots have. The daemon may be killed before, meanwhile and after. */
  async #snapshot(random: Random): Promise<void> {
    const images = this.#images.filter(({ disk }) => disk.format === 'qcow2');
    const { target } = random.pick(images).disk;
    const taken = this.#snapshots.get(target) ?? 0;
    const streams = random.below(3) === 0;
    if (taken === MOST_SNAPSHOTS && !streams) return;
    if (!streams) this.#snapshots.set(target, taken + 1);
    const name = `${target}.${taken}`;
    const ask = () =>
      streams
        ? this.#ask('block-stream', { device: target })
        : this.#ask('x-snapshot', { disk: target, filename: name });
    await this.#insist(`${streams ? 'stream of' : 'snapshot'} ${streams ? target : name}`, ask);
  }

  /** Of some qcow2 image; the one before is gone. A file that has the backup's name is whole, however the daemon ended. */
  async #backup(random: Random): Promise<void> {
    const images = this.#images.filter(({ disk }) => disk.format === 'qcow2');
    const { target: device } = random.pick(images).disk;
    const target = `${device}.backup`;
    if (existsSync(target)) {
      await promisify(execFile)('qemu-img', ['check', '-q', '-f', 'qcow2', target]);
      rmSync(target);
    }
    await this.#insist(`backup ${target}`, () => this.#ask('drive-backup', { device, target, sync: 'full' }));
  }

  /** Of some disk. */
  async #limit(random: Random): Promise<void> {
    const { target: device } = random.pick(this.#images).disk;
    const iops = random.oneIn(4) ? 0 : random.from(LEAST_IOPS, MOST_IOPS);
    const limits = { bps: 0, bps_rd: 0, bps_wr: 0, iops, iops_rd: 0, iops_wr: 0 };
    await this.#insist(`limits of ${device}`, () => this.#ask('block_set_io_throttle', { device, ...limits }));
  }

  /** A daemon that lives for a second only is met by chance. */
  async #insist(what: string, ask: () => Promise<unknown>): Promise<void> {
    let told = '';
    for (let tries = 0; tries < TRIES && told !== 'done'; tries++) {
      if (tries > 0) await sleep(TRY_PAUSE_MS);
      told = await ask().then(
        () => 'done',
        ({ message }: Error) => message,
      );
    }
    this.watch.note(`${what}: ${told}`);
  }

  #killHelper(random: Random): void {
    const { helpers } = this;
    if (helpers.length === 0) return;
    const pid = random.pick(helpers);
    this.watch.note(`helper ${pid}: killed`);
    endProcess(pid);
  }

  async #again(course: {
    random: Random;
    pauseMs: number;
    happens: () => Promise<void>;
    ending: AbortSignal;
  }): Promise<void> {
    const { random, pauseMs, happens, ending } = course;
    while (!ending.aborted && !this.watch.failed.aborted) {
      await sleep(random.below(pauseMs), undefined, { signal: ending }).catch(() => undefined);
      if (ending.aborted) return;
      await happens().catch((error: Error) => this.watch.fail(error.stack ?? error.message));
      this.#happenings++;
    }
  }

  #look(): void {
    const { what, ms } = this.oldest();
    const { patienceMs } = this.#options;
    if (ms > patienceMs) this.watch.fail(`${what} did not come within ${patienceMs / 1000} s`);
  }

  /** Asks the daemon to look at the sizes of images; there may be none, or it may be killed. */
  #refresh(): void {
    this.#ask('x-refresh').catch(() => {});
  }

  async #ask(command: string, args: object = {}): Promise<unknown> {
    const client = await QmpClient.connect(join(this.hostFolder, 'xen-blockd.sock'));
    return client.execute(command, args).finally(() => client.close());
  }
}

/** It may have ended by itself. */
function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function listTree(store: XenstoreClient, path: string, lines: string[]): Promise<void> {
  lines.push(`${path} = ${JSON.stringify(await store.tryRead(path))}`);
  for (const name of (await store.tryDirectory(path)) ?? []) await listTree(store, `${path}/${name}`, lines);
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isFile() ? [entry.name] : []));
  } catch {
    return [];
  }
}
