import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EmulatedHost } from '@xenpv/emulator';
import { ownFolder } from '@xenpv/test-support/own-folder';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { XenstoreClient } from '@xenpv/xenstore';
import { Random } from '../program/random.js';
import { CrashGuest, GUEST_HAPPENINGS, type GuestHappening } from './crash-guest.js';
import { DriveGuest } from './drive-guest.js';
import { type GuestFigures, KINDS, type Kind } from './figures.js';
import { Killer, type KillerFigures } from './killer.js';
import { SECTOR } from './model.js';
import type { Setup } from './setup.js';
import { type CrashImage, createImage, helpersOf } from './storage/images.js';
import { Watch } from './watch.js';

const SECTORS = 8192;
const ROOM = 2 * SECTORS;
const LOOK_MS = 100;
/** How many sectors broken storage loses at a kill. */
const LOST_SECTORS = 200;
/** A guest's pauses between what happens to it. Helpers': one that is killed three times as it opens an image is a refusal. */
const HAPPENING_MS = { seldom: 8000, often: 400, helpers: 2000 };

/** What happens besides the kills. */
export const HAPPENINGS = [...GUEST_HAPPENINGS, 'medium', 'helper'] as const;
export type Happening = (typeof HAPPENINGS)[number];

/** What is broken on purpose, to see that it is found. */
export const BREAKS = ['none', 'journal', 'storage'] as const;
export type Break = (typeof BREAKS)[number];

export interface RoundOptions {
  readonly kills: number;
  readonly over: AbortSignal;
  /** Where images, logs and the host's folder go. */
  readonly folder: string;
  readonly breaks: Break;
  readonly happenings: readonly Happening[];
  /** How old anything that is waited for may become. */
  readonly patienceMs: number;
  readonly progress: (kills: number) => void;
}

export interface RoundResult extends KillerFigures {
  readonly operations: Record<Kind, number>;
  /** Bytes that were read and compared. */
  readonly verified: number;
  readonly happenings: number;
  readonly problems: readonly string[];
  readonly seconds: number;
}

/** A host, its guests, and a daemon that is killed. */
export async function runRound(setup: Setup, options: RoundOptions): Promise<RoundResult> {
  const began = performance.now();
  const round = await Round.prepare(setup, options);
  try {
    await round.run();
  } finally {
    await round.close();
  }
  return round.result((performance.now() - began) / 1000);
}

interface RoundParts {
  readonly host: EmulatedHost;
  readonly hostFolder: string;
  readonly images: readonly CrashImage[];
  readonly devices: ThrottledDevices;
}

class Round {
  readonly #setup: Setup;
  readonly #options: RoundOptions;
  readonly #watch: Watch;
  readonly #log: number;
  readonly #host: EmulatedHost;
  readonly #hostFolder: string;
  readonly #images: readonly CrashImage[];
  readonly #devices: ThrottledDevices;
  readonly #guests: readonly CrashGuest[];
  readonly #drive: DriveGuest;
  readonly #killer: Killer;
  readonly #ending = new AbortController();
  #happenings = 0;

  static async prepare(setup: Setup, options: RoundOptions): Promise<Round> {
    mkdirSync(options.folder, { recursive: true });
    const hostFolder = ownFolder('/dev/shm', 'xen-crash');
    const host = await EmulatedHost.create({ directory: hostFolder, toolstackTimeoutMs: options.patienceMs });
    const images: CrashImage[] = [];
    const devices = new ThrottledDevices(`xen-crash-${process.pid}`);
    for (const [number, { storage }] of setup.guests.entries()) {
      const path = join(options.folder, `image-${number}`);
      images.push(await createImage(storage, { path, sectors: SECTORS, devices }));
    }
    return new Round(setup, options, { host, hostFolder, images, devices });
  }

  private constructor(setup: Setup, options: RoundOptions, { host, hostFolder, images, devices }: RoundParts) {
    this.#setup = setup;
    this.#options = options;
    this.#log = openSync(join(options.folder, 'events.log'), 'w');
    const began = performance.now();
    this.#watch = new Watch((line) => {
      writeSync(this.#log, `${((performance.now() - began) / 1000).toFixed(3)} ${line}\n`);
    });
    this.#host = host;
    this.#hostFolder = hostFolder;
    this.#images = images;
    this.#devices = devices;
    const random = new Random(setup.seed ^ 0xc4a5);
    const common = { host, watch: this.#watch, sectors: SECTORS, room: ROOM, refresh: () => this.#refresh() };
    this.#guests = setup.guests.map(
      (guest, number) =>
        new CrashGuest({
          ...common,
          number,
          setup: guest,
          image: images[number],
          random: new Random(random.below(2 ** 31)),
        }),
    );
    this.#drive = new DriveGuest({
      host,
      folder: options.folder,
      random: new Random(random.below(2 ** 31)),
      watch: this.#watch,
    });
    this.#killer = new Killer({
      daemon: this.#daemonOptions(),
      random,
      watch: this.#watch,
      kills: options.kills,
      over: options.over,
      oldest: () => this.#oldest().ms,
      operations: () => this.#figures().reduce((sum, { operations }) => sum + operations, 0),
      longest: () => Math.max(...this.#figures().map((figures) => figures.takeLongest())),
      between: () => this.#breakSomething(random),
      progress: options.progress,
    });
  }

  async run(): Promise<void> {
    const looking = setInterval(() => this.#look(), LOOK_MS);
    try {
      const killing = this.#killer.run();
      await Promise.all([...this.#guests.map((guest) => guest.boot()), this.#drive.boot()]);
      const happening = this.#happen();
      await killing;
      this.#ending.abort();
      await happening;
      if (this.#watch.failed.aborted) return;
      await Promise.all([...this.#guests.map((guest) => guest.finish()), this.#drive.finish()]);
      if (this.#watch.failed.aborted) return;
      await this.#killer.finish();
      for (const guest of this.#guests) await guest.verify();
    } finally {
      clearInterval(looking);
      this.#ending.abort();
    }
  }

  async close(): Promise<void> {
    await this.#keepEvidence();
    for (const guest of [...this.#guests, this.#drive]) await guest.abandon();
    await this.#killer.abandon();
    for (const pid of helpersOf(this.#hostFolder)) endProcess(pid);
    await this.#host.close();
    for (const image of this.#images) await image[Symbol.asyncDispose]();
    this.#devices[Symbol.dispose]();
    closeSync(this.#log);
    rmSync(this.#hostFolder, { recursive: true, force: true });
    if (this.#watch.problems.length === 0) rmSync(this.#options.folder, { recursive: true, force: true });
  }

  result(seconds: number): RoundResult {
    const figures = this.#figures();
    const operations = Object.fromEntries(
      KINDS.map((kind) => [kind, figures.reduce((sum, guest) => sum + guest.countOf(kind), 0)]),
    ) as Record<Kind, number>;
    const verified = figures.reduce((sum, guest) => sum + guest.verified, 0);
    const { problems } = this.#watch;
    return { ...this.#killer.figures, operations, verified, happenings: this.#happenings, problems, seconds };
  }

  /** Until the kills end; what has begun then is waited for. */
  async #happen(): Promise<void> {
    const { seed } = this.#setup;
    const { happenings } = this.#options;
    const ofGuests = happenings.filter((what): what is GuestHappening => what !== 'medium' && what !== 'helper');
    const guests = ofGuests.length === 0 ? [] : this.#guests;
    const running = guests.map((guest, number) => {
      const random = new Random(seed + number);
      const pauseMs = number === this.#guests.length - 1 ? HAPPENING_MS.often : HAPPENING_MS.seldom;
      return this.#again(random, pauseMs, () => guest.happen(random.pick(ofGuests)));
    });
    if (happenings.includes('medium')) {
      running.push(this.#again(new Random(seed), HAPPENING_MS.often, () => this.#drive.change()));
    }
    if (happenings.includes('helper') && this.#setup.guests.some(({ storage }) => storage === 'qcow2')) {
      const random = new Random(~seed);
      running.push(this.#again(random, HAPPENING_MS.helpers, async () => this.#killHelper(random)));
    }
    await Promise.all(running);
  }

  #killHelper(random: Random): void {
    const helpers = helpersOf(this.#hostFolder);
    if (helpers.length === 0) return;
    const pid = random.pick(helpers);
    this.#watch.note(`helper ${pid}: killed`);
    endProcess(pid);
  }

  async #again(random: Random, pauseMs: number, happens: () => Promise<void>): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted && !this.#watch.failed.aborted) {
      await sleep(random.below(pauseMs), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      await happens().catch((error: Error) => this.#watch.fail(error.stack ?? error.message));
      this.#happenings++;
    }
  }

  #figures(): readonly GuestFigures[] {
    return [...this.#guests, this.#drive].map(({ figures }) => figures);
  }

  /** The oldest thing that is waited for: an answer, or what the host or a guest waits for. */
  #oldest(): { readonly what: string; readonly ms: number } {
    let oldest = this.#watch.oldest();
    for (const { name, figures } of [...this.#guests, this.#drive]) {
      if (figures.oldest > oldest.ms) oldest = { what: `${name}: an answer`, ms: figures.oldest };
    }
    return oldest;
  }

  #look(): void {
    const { what, ms } = this.#oldest();
    const { patienceMs } = this.#options;
    if (ms > patienceMs) this.#watch.fail(`${what} did not come within ${patienceMs / 1000} s`);
  }

  #daemonOptions() {
    const { engine, threads, transfer } = this.#setup;
    const config = join(this.#options.folder, 'xen-blockd.toml');
    writeFileSync(config, 'max-queues = 4\nmax-ring-page-order = 4\nmax-indirect-segments = 64\n');
    const args = ['--config', config, '--transfer', transfer];
    const spawned = (pid: number | undefined) => this.#devices.add(pid);
    return { directory: this.#hostFolder, engine, threads, args, logs: join(this.#options.folder, 'logs'), spawned };
  }

  /** Asks the daemon to look at the sizes of images; there may be none, or it may be killed. */
  #refresh(): void {
    const socket = createConnection(join(this.#hostFolder, 'xen-blockd.sock'));
    socket.on('error', () => {});
    socket.on('data', () => socket.destroy());
    socket.write('{"command":"refresh"}\n');
  }

  /** Between two lives, when it was asked for. */
  #breakSomething(random: Random): void {
    const { breaks, folder } = this.#options;
    if (breaks === 'journal') rmSync(join(this.#hostFolder, 'journal'), { recursive: true, force: true });
    if (breaks !== 'storage') return;
    const image = openSync(join(folder, 'image-0'), 'r+');
    for (let i = 0; i < LOST_SECTORS; i++) {
      writeSync(image, Buffer.alloc(SECTOR), 0, SECTOR, SECTOR * random.below(SECTORS));
    }
    closeSync(image);
  }

  /** What the store and the journal held when it failed. */
  async #keepEvidence(): Promise<void> {
    const { problems } = this.#watch;
    if (problems.length === 0) return;
    writeFileSync(join(this.#options.folder, 'problems.txt'), `${problems.join('\n')}\n`);
    const store = XenstoreClient.open(this.#host.xenstored.connect(0));
    const lines: string[] = [];
    await listTree(store, '/local/domain', lines);
    writeFileSync(join(this.#options.folder, 'xenstore.txt'), `${lines.join('\n')}\n`);
    await store.close();
    const journal = join(this.#hostFolder, 'journal');
    const kept = join(this.#options.folder, 'journal');
    mkdirSync(kept, { recursive: true });
    for (const name of namesIn(journal)) writeFileSync(join(kept, name), readFileSync(join(journal, name)));
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
