import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import type { Random } from '../program/random.js';
import { Media, mediumContent } from './drive-load.js';
import { GuestFigures } from './figures.js';
import { GuestLife } from './guest-life.js';
import { DiskModel } from './model.js';
import type { Watch } from './watch.js';

const SECTORS = 1024;
const MEDIA = 3;
const POLL_MS = 5;
const VDEV = 'xvdc';
const FRONTEND = { vdev: VDEV, ringPageOrder: 1, queues: 2, poolPages: 64 };

/** A guest with a cdrom drive whose medium is changed under it. */
export class DriveGuest {
  readonly figures = new GuestFigures();
  readonly name = 'the drive';
  readonly #media = new Media();
  readonly #paths: readonly string[];
  readonly #host: EmulatedHost;
  readonly #random: Random;
  readonly #watch: Watch;
  #domain: EmulatedDomain | undefined;
  #life: GuestLife | undefined;

  constructor(options: { host: EmulatedHost; folder: string; random: Random; watch: Watch }) {
    this.#host = options.host;
    this.#random = options.random;
    this.#watch = options.watch;
    this.#paths = Array.from({ length: MEDIA }, (_, medium) => {
      const path = join(options.folder, `medium-${medium}`);
      writeFileSync(path, mediumContent(medium, SECTORS));
      return path;
    });
  }

  async boot(): Promise<void> {
    const domain = await this.#host.createDomain({ name: 'drive', memoryMiB: 4 });
    this.#domain = domain;
    const disk = { vdev: VDEV, target: this.#paths[0], deviceType: 'cdrom' } as const;
    await this.#watch.wait(`${this.name}: attach`, this.#host.toolstack.attachDisk(domain.domid, disk));
    const memory = { figures: this.figures.memory, media: this.#media.memory, model: DiskModel.create(0, 1).memory };
    const start = { guest: 0, frontend: FRONTEND, seed: this.#random.below(2 ** 31), depth: 1, thinkMs: 0, ...memory };
    this.#life = new GuestLife(domain, start, (problem) => this.#watch.fail(problem));
    await this.#watch.wait(`${this.name}: connect`, this.#life.connected);
  }

  /** Puts another medium in; resolves when the guest has read it. */
  async change(): Promise<void> {
    const medium = (this.#media.seen + this.#random.from(1, MEDIA - 1)) % MEDIA;
    this.#watch.note(`${this.name}: medium ${medium}`);
    this.#media.begin(medium);
    const change = this.#host.toolstack.changeMedium(this.#domain?.domid ?? 0, VDEV, this.#paths[medium]);
    await this.#watch.wait(`${this.name}: change of the medium`, change);
    await this.#watch.wait(`${this.name}: the new medium`, this.#seen(medium));
    this.#media.end();
  }

  async finish(): Promise<void> {
    await this.#watch.wait(`${this.name}: close`, this.#life?.stop() ?? Promise.resolve());
  }

  async abandon(): Promise<void> {
    await this.#life?.crash();
  }

  async #seen(medium: number): Promise<void> {
    while (this.#media.seen !== medium && !this.#watch.failed.aborted) await sleep(POLL_MS);
  }
}
