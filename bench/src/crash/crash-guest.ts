import { setTimeout as sleep } from 'node:timers/promises';
import type { EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import type { Random } from '../program/random.js';
import { describeWrong } from './disk-load.js';
import { GuestFigures } from './figures.js';
import { GuestLife } from './guest-life.js';
import { DiskModel, SECTOR } from './model.js';
import type { GuestSetup } from './setup.js';
import type { CrashImage } from './storage/images.js';
import type { Watch } from './watch.js';

const MEMORY_MIB = 24;
const POLL_MS = 20;

export interface CrashGuestOptions {
  readonly host: EmulatedHost;
  readonly number: number;
  readonly setup: GuestSetup;
  readonly image: CrashImage;
  readonly sectors: number;
  readonly room: number;
  readonly random: Random;
  readonly watch: Watch;
  /** Has the daemon look at the sizes of images; anything may come of it. */
  readonly refresh: () => void;
}

/** What happens to a guest besides the kills of its backend. */
export const GUEST_HAPPENINGS = ['reboot', 'crash', 'destroy', 'replug', 'grow'] as const;
export type GuestHappening = (typeof GUEST_HAPPENINGS)[number];

/** A virtual machine with one disk, and what happens to it. Its disk's content outlives it. */
export class CrashGuest {
  readonly figures = new GuestFigures();
  readonly name: string;
  readonly #options: CrashGuestOptions;
  readonly #model: DiskModel;
  #sectors: number;
  #domain: EmulatedDomain | undefined;
  #life: GuestLife | undefined;

  constructor(options: CrashGuestOptions) {
    this.#options = options;
    this.name = `guest ${options.number}`;
    this.#sectors = options.sectors;
    this.#model = DiskModel.create(options.number, options.room);
  }

  /** Makes the domain, plugs the disk in and connects it. */
  async boot(): Promise<void> {
    const { host, number } = this.#options;
    this.#domain = await host.createDomain({ name: `guest-${number}`, memoryMiB: MEMORY_MIB });
    await this.#plug();
    await this.#live();
  }

  /** One thing happens; resolves when the disk is connected again. */
  async happen(what: GuestHappening): Promise<void> {
    this.#options.watch.note(`${this.name}: ${what}`);
    switch (what) {
      case 'reboot':
        await this.#stop();
        return this.#live();
      case 'crash':
        await this.#life?.crash();
        return this.#live();
      case 'destroy':
        await this.#life?.crash();
        await this.#wait('destroyed', () => this.#domain?.destroy());
        return this.boot();
      case 'replug':
        await this.#stop();
        await this.#unplug();
        await this.#plug();
        return this.#live();
      case 'grow':
        return this.#grow();
    }
  }

  /** Reads all of the disk and closes it. */
  async finish(): Promise<void> {
    await this.#wait('finish', () => this.#life?.stop('finish'));
  }

  /** Ends its thread as it is. */
  async abandon(): Promise<void> {
    await this.#life?.crash();
  }

  /** Compares the image, which nobody uses any more, with what was acknowledged. */
  async verify(): Promise<void> {
    const { image, watch } = this.#options;
    const content = await image.content();
    const sectors = (content.length * 4) / SECTOR;
    if (sectors < this.#sectors) watch.fail(`${this.name}: the image has ${sectors} sectors, not ${this.#sectors}`);
    const wrong = this.#model.check(this.#model.expect(0, Math.min(sectors, this.#model.room)), content);
    this.figures.addVerified(content.byteLength);
    if (wrong.length > 0) watch.fail(`${this.name}: ${describeWrong('the image at the end', wrong)}`);
  }

  async #live(): Promise<void> {
    const { setup, number, random, watch } = this.#options;
    const domain = this.#domain;
    if (domain === undefined || watch.failed.aborted) return;
    const { frontend, depth, thinkMs } = setup;
    const memory = { model: this.#model.memory, figures: this.figures.memory, media: undefined };
    const seed = random.below(2 ** 31);
    this.figures.setInFlight(0, 0);
    const start = { guest: number, frontend, seed, depth, thinkMs, ...memory };
    const life = new GuestLife(domain, start, (problem) => watch.fail(`${this.name}: ${problem}`));
    this.#life = life;
    await this.#wait('connect', () => life.connected);
  }

  async #stop(): Promise<void> {
    await this.#wait('close', () => this.#life?.stop());
  }

  async #plug(): Promise<void> {
    const { host, image, setup } = this.#options;
    const disk = { vdev: setup.frontend.vdev ?? '', ...image.disk };
    await this.#wait('attach', () => host.toolstack.attachDisk(this.#domain?.domid ?? 0, disk));
  }

  async #unplug(): Promise<void> {
    const { host, setup } = this.#options;
    const { vdev = '' } = setup.frontend;
    await this.#wait('detach', () => host.toolstack.detachDisk(this.#domain?.domid ?? 0, vdev));
  }

  /** The image becomes larger; the daemon is asked to look until the guest knows. */
  async #grow(): Promise<void> {
    const { image, random, refresh, watch } = this.#options;
    const more = 8 * random.from(1, 64);
    if (!image.grows || this.#sectors + more > this.#model.room) return;
    this.#sectors += more;
    image.grow(this.#sectors);
    const known = async () => {
      while (this.figures.sectors !== this.#sectors && !watch.failed.aborted) {
        refresh();
        await sleep(POLL_MS);
      }
    };
    await this.#wait('larger disk', known);
  }

  /** Nothing begins after a failure: what was waited for before may still be on its way. */
  async #wait(what: string, begin: () => Promise<unknown> | undefined): Promise<void> {
    const { watch } = this.#options;
    if (!watch.failed.aborted) await watch.wait(`${this.name}: ${what}`, begin() ?? Promise.resolve());
  }
}
