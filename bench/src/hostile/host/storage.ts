import { closeSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type BlockImage,
  ImageWrapper,
  type MemoryImage,
  memoryImage,
  openFileImage,
  type PowerCutImage,
  powerCutImage,
} from '@xenpv/blockdev';
import { SECTOR } from '../oracle/contents.js';
import { type DiskState, firstWrong } from '../oracle/disk-model.js';
import { NbdStorage } from './nbd-storage.js';
import { OddImage } from './odd-image.js';
import { SECTORS, type Setup } from './setup.js';

const BYTES = SECTORS * SECTOR;

/** An image that goes on when its user closes it: the next one has the same. */
class KeptImage extends ImageWrapper {
  protected override async closeOnce(): Promise<void> {}
}

/** The disks of a round, by the name of their targets; each is what it was when it is opened again. */
export class Storage {
  readonly #setup: Setup;
  readonly #folder: string;
  readonly #memories = new Map<string, MemoryImage>();
  readonly #servers = new Map<string, NbdStorage>();
  #cuts = 0;
  /** Operations that were in flight when a process that waited for them ended. */
  leftInFlight = 0;
  readonly #cuttable = new Map<string, PowerCutImage>();
  /** By target, the last one that was opened. */
  readonly #odd = new Map<string, OddImage>();
  readonly #dead: OddImage[] = [];

  constructor(setup: Setup, folder: string) {
    this.#setup = setup;
    this.#folder = folder;
  }

  /** `good`: whatever the others do. */
  async open(target: string, options: { readonly good: boolean }): Promise<BlockImage> {
    const { seed, odd, hangs } = this.#setup;
    if (options.good || !(odd || hangs)) return this.#openInner(target);
    // As with a lock on it: storage that hangs is in use until all was answered.
    await this.#odd.get(target)?.closed;
    const image = new OddImage(await this.#openInner(target), { seed, odd, hangs });
    this.#odd.set(target, image);
    return image;
  }

  /** The process that has the disks open ends with operations in flight: resolves when they were done, unseen. */
  async userDies(): Promise<void> {
    const images = [...this.#odd.values()];
    this.#odd.clear();
    this.#dead.push(...images);
    for (const inFlight of await Promise.all(images.map((image) => image.die()))) this.leftInFlight += inFlight;
  }

  /** At the end: what is left of such processes is to end. */
  bury(): void {
    for (const image of this.#dead.splice(0)) image.bury();
  }

  /** Nobody has a disk open any more: one whose power can be cut loses it, and has it again. */
  async endLife(target: string): Promise<void> {
    const image = this.#cuttable.get(target);
    if (image === undefined) return;
    await this.#odd.get(target)?.closed;
    await this.#servers.get(target)?.close();
    this.#servers.delete(target);
    this.#cuttable.delete(target);
    this.#cuts++;
    await image.cut({ seed: this.#setup.seed + this.#cuts });
    await image.close();
  }

  /** The first sector that is not as it must be, or -1. Nobody has it open. */
  async firstWrong(target: string, state: DiskState): Promise<number> {
    const memory = this.#memories.get(target);
    const disk = memory ? Buffer.from(memory.data as unknown as ArrayBuffer) : readFileSync(join(this.#folder, target));
    return firstWrong(disk, state);
  }

  async close(): Promise<void> {
    for (const server of this.#servers.values()) await server.close();
    for (const image of this.#cuttable.values()) await image.close();
  }

  async #openInner(target: string): Promise<BlockImage> {
    const { engine, direct, sectorSize, threads } = this.#setup;
    const memory = () => memoryImage({ data: this.#memory(target).data, sectorSize });
    if (engine === 'memory') return memory();
    if (engine === 'nbd') return this.#server(target, memory).open();
    if (engine === 'power-cut') {
      const image = new KeptImage(this.#cuttableImage(target));
      // Its cache is one thread's: others reach it through a server.
      return threads === 0 ? image : this.#server(target, () => image).open();
    }
    const path = join(this.#folder, target);
    const fd = openSync(path, 'a');
    ftruncateSync(fd, BYTES);
    closeSync(fd);
    // io_uring where it works; the log says where it does not.
    return openFileImage(path, { engine: engine === 'io_uring' ? 'auto' : engine, direct });
  }

  #server(target: string, image: () => BlockImage): NbdStorage {
    const server = this.#servers.get(target) ?? new NbdStorage(image(), join(this.#folder, `${target}.sock`));
    this.#servers.set(target, server);
    return server;
  }

  #cuttableImage(target: string): PowerCutImage {
    const image = this.#cuttable.get(target) ?? powerCutImage(memoryImage({ data: this.#memory(target).data }));
    this.#cuttable.set(target, image);
    return image;
  }

  #memory(target: string): MemoryImage {
    const memory = this.#memories.get(target) ?? memoryImage({ size: BYTES });
    this.#memories.set(target, memory);
    return memory;
  }
}
