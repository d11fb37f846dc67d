import { LatencyHistogram } from '@xenpv/blkfront';
import { VdiskInfo } from '@xenpv/blkif';
import type { XenProvider } from '@xenpv/xen-sys';
import { Random } from '../../program/random.js';
import { SECTOR } from '../oracle/contents.js';
import { DiskModel } from '../oracle/disk-model.js';
import type { Terms } from '../oracle/meaning.js';
import { Verdict } from '../oracle/verdict.js';
import { endBadly } from './bad-ends.js';
import { State } from './connection.js';
import { RequestDrawer } from './draw.js';
import { Life } from './life.js';
import { LoadWatch } from './load-watch.js';
import type { GuestPages } from './pages.js';
import type { GuestPlan, GuestReport, LifeEnd, World } from './plan.js';
import { type Race, TracedRace } from './race.js';
import { RingLoad } from './ring-load.js';

const MOST_SEGMENTS = 256;

/** A guest with a disk: it lives, again and again, until it has sent its requests. Rejects with what went wrong. */
export class Guest {
  readonly plan: GuestPlan;
  readonly #provider: XenProvider;
  readonly #world: World;
  readonly #makeRace: ((memory: ArrayBufferLike) => Race) | undefined;
  readonly #random: Random;
  /** Of the course of its lives, whatever happens in them. */
  readonly #course: Random;
  readonly #model: DiskModel;
  readonly #latencies = new LatencyHistogram();
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
    this.#course = new Random(plan.seed ^ 0x11fe5);
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
    const { p50, p99, max } = this.#latencies.read();
    return {
      answered: this.#answered,
      lives: this.#lives,
      refused: this.#refused,
      state: this.#model.state,
      latency: { p50: p50 / 1000, p99: p99 / 1000, most: max / 1000 },
    };
  }

  async #live(): Promise<void> {
    const { lives, requests, victim, ends } = this.plan;
    // The last one makes up for what others left undone, and closes.
    for (let life = lives; life > 0; life--) {
      const last = life === 1;
      const end = last ? 'closed' : this.#course.pick(['closed' as const, ...ends]);
      const nonsense = this.plan.nonsense && !last && this.#course.oneIn(4);
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
    const race = this.#makeRace?.(life.pages.words[0].buffer);
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
        ...(plan.victim ? { took: (milliseconds: number) => this.#latencies.add(1000 * milliseconds) } : {}),
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
      else {
        const { moves } = plan;
        await endBadly(end, { life, loads: this.#loads, world: this.#world, random: this.#random, moves });
      }
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
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
