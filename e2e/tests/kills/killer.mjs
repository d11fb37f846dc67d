/** Kills a daemon at instants that a seed chooses, and starts it again at once, as a service manager does. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { log } from '../../dom0/report.mjs';
import { Random } from '../shared/random.mjs';

const SERVING = '"msg":"serving"';
/** The first half second of a life, or of its service. */
const YOUNG_MS = 500;
const OLD_MS = 2500;
/** Emulation on a busy machine is slow; this is when a life is given up. */
const SERVING_SECONDS = 400;
const REPORT_EVERY = 5;

/** When a life ends: after its start, on its way to its disks, young or old in their service. */
const ENDS = ['serving', 'at its start', 'young', 'serving', 'taking over', 'young'];

export class Killer {
  kills = 0;
  /** Kills within the first half second of a life or of its service. */
  early = 0;
  /** Services that began after at least one kill. */
  restarts = 0;
  /** Those of them that found requests in flight; and those requests. */
  recovering = 0;
  recovered = 0;
  #daemon;
  #disks;
  #random;
  #startMs = 2000;

  /** `daemon` serves `disks` disks now. */
  constructor(daemon, { disks, seed }) {
    this.#daemon = daemon;
    this.#disks = disks;
    this.#random = new Random(seed);
  }

  /**
   * Kills it until `kills` are reached; it serves again at the end. `beforeKill` and `afterStart` are called around
   * the kill of a daemon that serves; the latter while the next one starts. Errors: a life in which the disks were not served.
   */
  async run(kills, { beforeKill = async () => {}, afterStart = async () => {} } = {}) {
    for (let turn = 0; this.kills < kills; turn++) {
      const end = ENDS[turn % ENDS.length];
      await sleep(this.#random.fraction() * (end === 'young' ? YOUNG_MS : OLD_MS));
      if (end === 'young') this.early++;
      await beforeKill(turn);
      await this.#kill();
      const lives = [];
      if (end === 'at its start') {
        const more = 1 + Math.floor(this.#random.fraction() * 2);
        for (let i = 0; i < more; i++) lives.push(await this.#shortLife(this.#random.fraction() * YOUNG_MS));
        this.early += more;
      }
      if (end === 'taking over')
        lives.push(await this.#shortLife((0.4 + this.#random.fraction() * 0.8) * this.#startMs));
      lives.push(await this.#longLife(() => afterStart(turn)));
      this.#count(lives);
    }
  }

  /** Ends it with SIGTERM, once it has served for a while, and starts it again; so many times. */
  async restart(times) {
    for (let i = 0; i < times; i++) {
      await sleep(this.#random.fraction() * OLD_MS);
      this.#daemon.check();
      const code = await this.#daemon.stop();
      if (code !== 0) throw new Error(`SIGTERM: the daemon ended with ${code}:\n${this.#daemon.tail()}`);
      await this.#longLife(async () => {});
    }
  }

  async #kill() {
    this.#daemon.check();
    await this.#daemon.stop({ signal: 'SIGKILL' });
    this.kills++;
    if (this.kills % REPORT_EVERY === 0) {
      log(`${this.kills} kills, ${this.recovering} of ${this.restarts} restarts recovered ${this.recovered} requests`);
    }
  }

  /** A life of so many milliseconds. Resolves with its log. */
  async #shortLife(ms) {
    this.#daemon.spawn();
    await sleep(ms);
    await this.#kill();
    return this.#daemon.log;
  }

  async #longLife(afterStart) {
    const began = performance.now();
    this.#daemon.spawn();
    const serving = this.#daemon.logged(SERVING, { times: this.#disks, timeout: SERVING_SECONDS });
    await Promise.all([serving, afterStart()]);
    this.#startMs = performance.now() - began;
    return this.#daemon.log;
  }

  #count(logs) {
    const recovered = logs.flatMap(recoveredIn).reduce((sum, count) => sum + count, 0);
    this.restarts++;
    this.recovered += recovered;
    if (recovered > 0) this.recovering++;
  }
}

/** How many requests each ring's service began with, by the log of a life. */
function recoveredIn(log) {
  const lines = readFileSync(log, 'utf8').split('\n');
  return lines.filter((line) => line.includes(SERVING)).map((line) => JSON.parse(line).recovered ?? 0);
}
