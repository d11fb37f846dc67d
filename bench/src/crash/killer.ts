import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../program/random.js';
import { DaemonLife, type DaemonOptions } from './daemon.js';
import type { Watch } from './watch.js';

/** When a life ends, and how. */
const ENDS = {
  /** Killed at any instant from its begin to when disks are served. */
  starting: 30,
  /** Killed while it takes disks up and does what waited. */
  early: 30,
  /** Killed later. */
  serving: 30,
  /** Told to end. */
  stopped: 6,
  /** Killed while it ends. */
  stopping: 4,
} as const;
type End = keyof typeof ENDS;

const EARLY_MS = 25;
const SERVING_MS = 150;
const STOPPING_MS = 40;
/** How old something may become before a life is spared. */
const PATIENT_MS = 2000;
/** Of the patience: how long a life is spared then, at most. On a busy machine an image with a helper takes long to open. */
const SPARED_PART = 1 / 4;
/** How long a daemon that was told to end may take; its own limit is less. */
const STOP_TIMEOUT_MS = 30_000;
/** From how many lives it is learnt how long a start takes. */
const LEARN_FROM = 20;
const POLL_MS = 5;

export interface KillerOptions {
  readonly daemon: Omit<DaemonOptions, 'number'>;
  readonly random: Random;
  readonly watch: Watch;
  readonly kills: number;
  /** No kill after that. */
  readonly over: AbortSignal;
  /** How long guests wait until that is a failure, in milliseconds. */
  readonly patienceMs: number;
  /** The age of the oldest thing that is waited for, in milliseconds. */
  readonly oldest: () => number;
  /** What the guests have had answered. */
  readonly operations: () => number;
  /** The longest pause since this was asked before, in milliseconds. */
  readonly longest: () => number;
  /** Before a process begins that follows a killed one. */
  readonly between: () => void;
  readonly progress: (kills: number) => void;
}

/** What came of it. */
export interface KillerFigures {
  kills: number;
  killsAtStart: number;
  stops: number;
  /** Lives in which guests had something answered, and those that took requests over from the one before. */
  served: number;
  recovering: number;
  recovered: number;
  /** The longest operation of each life that served, in milliseconds. */
  readonly pauses: number[];
}

/** Starts the daemon and kills it, again and again, without a pause. */
export class Killer {
  readonly figures: KillerFigures = {
    kills: 0,
    killsAtStart: 0,
    stops: 0,
    served: 0,
    recovering: 0,
    recovered: 0,
    pauses: [],
  };
  readonly #options: KillerOptions;
  readonly #startMs: number[] = [300];
  readonly #prepared: DaemonLife[] = [];
  #lives = 0;
  #current: DaemonLife | undefined;

  constructor(options: KillerOptions) {
    this.#options = options;
  }

  /** Kills as often as it is to, then leaves one alive. */
  async run(): Promise<void> {
    const { kills, over, watch, progress } = this.#options;
    this.#begin();
    await this.#current?.ready;
    while (this.figures.kills < kills && !over.aborted && !watch.failed.aborted) {
      await this.#live();
      if (watch.failed.aborted) return;
      this.#options.between();
      this.#begin();
      progress(this.figures.kills);
    }
    await this.#current?.ready;
    this.#expectAlive();
  }

  /** Ends the last one as a service manager does. */
  async finish(): Promise<void> {
    this.#current?.signal('SIGTERM');
    await this.#expectStop();
  }

  /** Nothing is left. */
  async abandon(): Promise<void> {
    for (const life of [this.#current, ...this.#prepared]) {
      life?.signal('SIGKILL');
      await life?.ended;
    }
  }

  get current(): DaemonLife | undefined {
    return this.#current;
  }

  #begin(): void {
    while (this.#prepared.length < 2) {
      this.#prepared.push(new DaemonLife({ ...this.#options.daemon, number: this.#lives++ }));
    }
    this.#current = this.#prepared.shift();
    this.#current?.begin();
    this.#prepared.push(new DaemonLife({ ...this.#options.daemon, number: this.#lives++ }));
  }

  /** Waits for the end that was drawn. */
  async #live(): Promise<void> {
    const { random, operations, watch } = this.#options;
    const life = this.#current;
    if (life === undefined) return;
    const end = this.#spares() ? 'serving' : random.weighted(ENDS);
    const before = operations();
    const died = life.ended.then(() => true as const);
    const alive = await Promise.race([this.#untilEnd(end, life), died]);
    if (alive === true) return this.#expectAlive();
    await this.#end(end, life);
    this.#account(end, life, operations() - before);
    for (const fault of life.faults) watch.fail(`the daemon, ${life.log}: ${fault}`);
  }

  async #untilEnd(end: End, life: DaemonLife): Promise<void> {
    const { random } = this.#options;
    if (end === 'starting') {
      await sleep((random.below(1000) / 1000) * random.pick(this.#startMs));
      return;
    }
    await life.serving;
    if (this.#spares()) return this.#spare();
    await sleep(random.below((end === 'early' ? EARLY_MS : SERVING_MS) + 1));
  }

  async #end(end: End, life: DaemonLife): Promise<void> {
    const { random, watch } = this.#options;
    if (end === 'stopped' || end === 'stopping') life.signal('SIGTERM');
    if (end === 'stopped') {
      this.figures.stops++;
      await this.#expectStop();
      return;
    }
    if (end === 'stopping') await sleep(random.below(STOPPING_MS + 1));
    life.signal('SIGKILL');
    this.figures.kills++;
    const { signal, code } = await life.ended;
    const own = end === 'stopping' && code === 0;
    if (signal !== 'SIGKILL' && !own) watch.fail(`the daemon ended by itself with ${code ?? signal}, see ${life.log}`);
  }

  #account(end: End, life: DaemonLife, answered: number): void {
    const { watch, longest } = this.#options;
    if (life.isReady) {
      this.#startMs.push(life.readyAt - life.began);
      if (this.#startMs.length > LEARN_FROM) this.#startMs.shift();
    } else this.figures.killsAtStart++;
    if (life.recovered > 0) this.figures.recovering++;
    this.figures.recovered += life.recovered;
    if (answered > 0) {
      this.figures.served++;
      this.figures.pauses.push(longest());
    }
    const { adopted, recovered, number } = life;
    const lived = Math.round(performance.now() - life.began);
    watch.note(
      `life ${number}: ${end} after ${lived} ms, adopted ${adopted}, recovered ${recovered}, answered ${answered}`,
    );
  }

  #spares(): boolean {
    return this.#options.oldest() > PATIENT_MS;
  }

  /** Somebody waits for long: this life goes on until that is over. */
  async #spare(): Promise<void> {
    const until = performance.now() + SPARED_PART * this.#options.patienceMs;
    while (this.#spares() && performance.now() < until && !this.#options.watch.failed.aborted) await sleep(POLL_MS);
  }

  #expectAlive(): void {
    const { watch } = this.#options;
    const life = this.#current;
    void Promise.race([life?.ended, sleep(0)]).then((end) => {
      if (end !== undefined) watch.fail(`the daemon ended by itself with ${end.code ?? end.signal}, see ${life?.log}`);
    });
  }

  async #expectStop(): Promise<void> {
    const { watch } = this.#options;
    const life = this.#current;
    if (life === undefined) return;
    const timeout = new AbortController();
    const late = sleep(STOP_TIMEOUT_MS, undefined, { signal: timeout.signal }).catch(() => undefined);
    const end = await Promise.race([life.ended, late]);
    timeout.abort();
    if (end === undefined) {
      watch.fail(`the daemon did not end within ${STOP_TIMEOUT_MS / 1000} s of SIGTERM, see ${life.log}`);
      life.signal('SIGKILL');
    } else if (end.code !== 0)
      watch.fail(`the daemon ended with ${end.code ?? end.signal} after SIGTERM, see ${life.log}`);
  }
}
