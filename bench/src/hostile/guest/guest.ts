import { ABIS, type AbiName, VdiskInfo } from '@xenpv/blkif';
import type { EventChannels, GrantAllocator, XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { Random } from '../../program/random.js';
import { SECTOR } from '../oracle/contents.js';
import { DiskModel, type DiskState } from '../oracle/disk-model.js';
import type { Terms } from '../oracle/meaning.js';
import { Verdict } from '../oracle/verdict.js';
import { Connection, nonsense, State } from './connection.js';
import { RequestDrawer } from './draw.js';
import { Latencies } from './latencies.js';
import { GuestPages } from './pages.js';
import { type Race, TracedRace } from './race.js';
import { RingLoad } from './ring-load.js';

/** What a guest asks of its host. */
export interface World {
  /** Makes the domain, if there is none, and attaches the disk. */
  attach(): Promise<void>;
  /** Resolves when nothing is left of the disk. */
  detach(): Promise<void>;
  /** The same, for the whole domain. */
  destroy(): Promise<void>;
}

/** How a guest behaves. */
export interface GuestPlan {
  readonly name: string;
  readonly domid: number;
  readonly seed: number;
  readonly device: number;
  /** A victim sends what is allowed only, a few requests at a time, and is never interrupted. */
  readonly victim: boolean;
  readonly requests: number;
  readonly lives: number;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly transfer: 'copy' | 'map' | 'persistent';
  readonly depth: number;
  readonly mutatesOneIn: number;
  readonly nonsense: boolean;
  readonly scribbles: boolean;
  /** How lives may end, besides with a close. */
  readonly ends: readonly LifeEnd[];
  readonly odd: boolean;
  /** What a sector reads as after a discard, if not as before. */
  readonly discarded: number;
  readonly maxQueues: number;
  /** Its disk loses its power at the end of each life. */
  readonly powerCuts: boolean;
  /** Its rings are moved meanwhile, or taken over. */
  readonly moves: boolean;
  readonly abi?: AbiName | undefined;
  readonly patienceSeconds: number;
}

export const LIFE_ENDS = ['runaway', 'destroyed', 'detached', 'states', 'flood', 'grants', 'ports'] as const;
export type LifeEnd = (typeof LIFE_ENDS)[number];

export interface GuestReport {
  readonly answered: number;
  readonly lives: number;
  readonly refused: number;
  readonly state: DiskState;
  /** Milliseconds; of a victim. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly most: number };
}

const WATCH_MS = 50;
/** Writes to xenstore at once. */
const FLOOD = 200;
const MOST_SEGMENTS = 256;
const NO_RACE = undefined;

/** A guest with a disk: it lives, again and again, until it has sent its requests. Rejects with what went wrong. */
export class Guest {
  readonly plan: GuestPlan;
  readonly #provider: XenProvider;
  readonly #world: World;
  readonly #makeRace: ((memory: ArrayBufferLike) => Race) | undefined;
  readonly #random: Random;
  readonly #model: DiskModel;
  readonly #latencies = new Latencies();
  readonly #stopped = new AbortController();
  #loads: RingLoad[] = [];
  #answered = 0;
  #lives = 0;
  #refused = 0;
  #over = false;
  #fail: (error: Error) => void = () => {};

  constructor(
    plan: GuestPlan,
    provider: XenProvider,
    world: World,
    makeRace: ((memory: ArrayBufferLike) => Race) | undefined,
  ) {
    this.plan = plan;
    this.#provider = provider;
    this.#world = world;
    this.#makeRace = makeRace;
    this.#random = new Random(plan.seed);
    this.#model = new DiskModel(plan.sectors);
  }

  get answered(): number {
    return this.#answered + this.#loads.reduce((sum, load) => sum + load.answered, 0);
  }

  /** A victim ends when it is told to. */
  stop(): void {
    this.#stopped.abort();
  }

  /** Looks at nothing any more. */
  abort(): void {
    this.#over = true;
    for (const load of this.#loads) load.abandon();
  }

  async run(): Promise<GuestReport> {
    const failed = new Promise<never>((_, reject) => {
      this.#fail = (error) => {
        this.abort();
        reject(error);
      };
    });
    failed.catch(() => {});
    const lived = this.#live();
    lived.catch(() => {});
    await Promise.race([lived, failed]);
    const { p50, p99, most } = this.#latencies;
    return {
      answered: this.#answered,
      lives: this.#lives,
      refused: this.#refused,
      state: this.#model.state,
      latency: { p50, p99, most },
    };
  }

  async #live(): Promise<void> {
    const { lives, requests, victim, ends } = this.plan;
    // The last one makes up for what others left undone, and closes.
    for (let life = lives; life > 0; life--) {
      const last = life === 1;
      const end = last ? 'closed' : this.#random.pick(['closed' as const, ...ends]);
      const nonsense = this.plan.nonsense && !last && this.#random.oneIn(4);
      const left = victim ? Number.POSITIVE_INFINITY : requests - this.answered;
      await this.#liveOnce(end, Math.ceil(left / life), nonsense);
      this.#lives++;
    }
  }

  async #liveOnce(end: LifeEnd | 'closed', requests: number, nonsense: boolean): Promise<void> {
    await this.#world.attach();
    const life = new Life(this.#provider, this.plan, this.#random, nonsense);
    try {
      await life.open();
      if (life.nonsense) await this.#endNonsense(life);
      else if (life.state === State.connected) await this.#load(life, end, requests);
      else throw new Error(`${this.plan.name}: the backend went to state ${life.state}`);
    } finally {
      for (const load of this.#loads) load.abandon();
      this.#answered = this.answered;
      this.#loads = [];
      this.#model.giveAll();
    }
    if (end === 'destroyed') await this.#world.destroy();
    else if (end !== 'detached' || life.nonsense) await this.#world.detach();
    if (this.plan.powerCuts) this.#model.powerWasCut();
    if (end !== 'destroyed' && end !== 'grants') await this.#lookAfterwards(life.pages);
    await life.release();
  }

  /** The backend has closed: what it writes now goes to what the guest has there since. */
  async #lookAfterwards(pages: GuestPages): Promise<void> {
    pages.renew();
    await turn();
    const touched = pages.firstTouched();
    if (touched >= 0)
      throw new Error(`${this.plan.name}: page ${touched} was written to after the end of its connection`);
  }

  /** What was agreed on is not what the guest thinks: nothing is sent. */
  async #endNonsense({ connection, state }: Life): Promise<void> {
    if (state === State.connected) await connection.close();
    else this.#refused++;
    await connection.setState(State.closed);
  }

  async #load(life: Life, end: LifeEnd | 'closed', requests: number): Promise<void> {
    const { plan } = this;
    const terms: Terms = {
      sectors: await life.connection.read('sectors'),
      maxIndirectSegments: await life.connection.read('feature-max-indirect-segments'),
      flush: (await life.connection.read('feature-flush-cache')) === 1,
      discard: (await life.connection.read('feature-discard')) === 1,
      readOnly: ((await life.connection.read('info')) & VdiskInfo.readOnly) !== 0,
      unit: (await life.connection.read('sector-size')) / SECTOR,
      odd: plan.odd,
      mapped: plan.transfer !== 'copy',
    };
    const wrong = (message: string) => this.#fail(new Error(message));
    if (terms.readOnly !== plan.readOnly)
      wrong(`${plan.name}: a disk that may ${plan.readOnly ? '' : 'not '}be written`);
    if (terms.sectors !== plan.sectors) wrong(`${plan.name}: a disk of ${terms.sectors} sectors`);
    const race = this.#makeRace?.(life.pages.words[0].buffer) ?? NO_RACE;
    const { abi, pages, connection } = life;
    const verdict = new Verdict(this.#model, pages, plan.discarded);
    const { scribbles } = plan;
    this.#loads = connection.rings.map(({ ring, shared, port }, i) => {
      const parts = { random: this.#random, model: this.#model, abi };
      const drawer = new RequestDrawer({ ...parts, pages, terms, mutatesOneIn: plan.mutatesOneIn, race });
      return new RingLoad({
        ...parts,
        name: `${plan.name}, ring ${i}`,
        ring,
        shared,
        drawer,
        verdict,
        race,
        depth: plan.depth,
        mostSegments: MOST_SEGMENTS,
        scribbles,
        notify: () => void life.events.notify(port),
        failed: wrong,
        ...(plan.victim ? { took: (milliseconds: number) => this.#latencies.add(milliseconds) } : {}),
      });
    });
    for (const load of this.#loads) load.left = Math.ceil(requests / this.#loads.length);
    const watch = new LoadWatch(this.#loads, plan.patienceSeconds, scribbles, wrong);
    const byPort = new Map(connection.rings.map(({ port }, i) => [port, this.#loads[i]]));
    const work = (ports: Uint32Array, count: number) => {
      for (let i = 0; i < count; i++) byPort.get(ports[i])?.work();
      life.events.unmask(ports, count);
    };
    const traced = race instanceof TracedRace ? race : undefined;
    traced?.listen();
    life.events.listen(work);
    try {
      for (const load of this.#loads) load.work();
      await this.#untilEnd(end);
      if (end === 'closed') await this.#close(life, wrong);
      else await this.#endBadly(life, end);
    } finally {
      watch.stop();
      life.events.listen(undefined);
      traced?.stopListening();
    }
  }

  /** Until all was sent and answered; or, where nobody will wait for that, until some was. */
  async #untilEnd(end: LifeEnd | 'closed'): Promise<void> {
    const { victim } = this.plan;
    const some = this.#loads.map(({ left }) => this.#random.below(left + 1));
    const closed = end === 'closed';
    const done = () =>
      this.#loads.every((load, i) => (closed ? load.left <= 0 && load.inFlight === 0 : load.left <= some[i]));
    while (!done()) {
      if (this.#over) throw new Error('given up');
      if (victim && this.#stopped.signal.aborted) for (const load of this.#loads) load.left = 0;
      await turn();
      // What found no room, and no answer comes to wake it.
      for (const load of this.#loads) if (load.inFlight === 0) load.work();
    }
  }

  async #close({ connection, pages }: Life, wrong: (message: string) => void): Promise<void> {
    for (const load of this.#loads) load.lookForTraces();
    const touched = pages.firstTouched();
    if (touched >= 0) wrong(`${this.plan.name}: page ${touched}, which no request had, was written to`);
    await connection.close();
  }

  async #endBadly(life: Life, end: LifeEnd): Promise<void> {
    await this.#misbehave(life, end);
    if (end !== 'destroyed') await life.connection.setState(State.closed);
  }

  async #misbehave(life: Life, end: LifeEnd): Promise<void> {
    const { connection, events, pages } = life;
    const random = this.#random;
    switch (end) {
      case 'runaway': {
        const { shared, ring, port } = random.pick(connection.rings);
        const ahead = random.pick([ring.size + 1, 2 ** 31, random.from(ring.size + 1, 2 ** 31)]);
        for (const load of this.#loads) load.abandon();
        Atomics.store(shared, 0, (ring.responsesConsumed + ring.size + ahead) | 0);
        events.notify(port);
        // A ring that is being moved, and cannot be attached, makes its disk held.
        if (!this.plan.moves) await connection.refused();
        break;
      }
      case 'states':
        for (let i = random.from(1, 6); i > 0; i--) {
          await connection.write('state', random.oneIn(4) ? nonsense(random) : String(random.below(10)));
        }
        for (let i = random.below(4); i > 0; i--) {
          await connection.write(random.pick(['ring-ref', 'event-channel', 'protocol', 'odd/key']), nonsense(random));
        }
        for (const load of this.#loads) load.abandon();
        break;
      case 'flood': {
        // Each of them wakes the backend's watch; it goes on with its requests meanwhile.
        const writes = Array.from({ length: FLOOD }, (_, i) =>
          i % 3 === 0 ? connection.write('odd/key', nonsense(random)) : connection.setState(State.connected),
        );
        await Promise.all(writes);
        for (const load of this.#loads) load.abandon();
        break;
      }
      case 'grants':
        // What the backend writes to them from now on is nobody's business.
        for (const load of this.#loads) load.abandon();
        pages.release();
        await turn();
        break;
      case 'ports':
        for (const load of this.#loads) load.abandon();
        connection.release();
        await turn();
        break;
      case 'detached': {
        const detached = this.#world.detach();
        await connection.refused();
        for (const load of this.#loads) load.abandon();
        await connection.setState(State.closed);
        await detached;
        break;
      }
      case 'destroyed':
        break;
    }
  }
}

/** A connection and what it takes: one domain, one attached disk. */
class Life {
  readonly #provider: XenProvider;
  readonly #plan: GuestPlan;
  readonly #random: Random;
  readonly nonsense: boolean;
  state = 0;
  events!: EventChannels;
  pages!: GuestPages;
  connection!: Connection;
  readonly abi;
  #allocator!: GrantAllocator;
  #store!: XenstoreClient;

  constructor(provider: XenProvider, plan: GuestPlan, random: Random, nonsense: boolean) {
    this.#provider = provider;
    this.#plan = plan;
    this.#random = random;
    this.nonsense = nonsense;
    this.abi = ABIS[plan.abi ?? random.pick<AbiName>(['x86_64', 'x86_32', 'arm'])];
  }

  async open(): Promise<void> {
    const random = this.#random;
    const { domid, device, transfer, maxQueues, victim, patienceSeconds } = this.#plan;
    this.events = this.#provider.openEventChannels();
    this.#allocator = this.#provider.openGrantAllocator();
    this.#store = XenstoreClient.open(await this.#provider.connectXenstore());
    this.pages = new GuestPages(this.#allocator, 0, victim ? 300 : 1000, random);
    this.connection = new Connection({
      store: this.#store,
      events: this.events,
      allocator: this.#allocator,
      domid,
      device,
      random,
      abi: this.abi,
      order: victim ? 0 : random.from(0, 4),
      queues: victim ? 1 : random.from(1, maxQueues),
      persistent: transfer === 'persistent',
      nonsense: this.nonsense,
      patienceSeconds,
    });
    this.state = await this.connection.open();
  }

  async release(): Promise<void> {
    this.pages.release();
    this.#allocator.close();
    this.events.close();
    await this.#store.close();
  }
}

/** Looks for rings that do not go on, and wakes those that ask for no events. */
class LoadWatch {
  readonly #timers: NodeJS.Timeout[];

  constructor(loads: readonly RingLoad[], seconds: number, polls: boolean, wrong: (message: string) => void) {
    const look = () => {
      for (const load of loads) {
        const stalled = load.stalled(seconds);
        if (stalled) wrong(`a ring does not go on: ${JSON.stringify(stalled)}`);
      }
    };
    const work = () => {
      for (const load of loads) load.work();
    };
    this.#timers = [setInterval(look, WATCH_MS)];
    if (polls) this.#timers.push(setInterval(work, 1));
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
