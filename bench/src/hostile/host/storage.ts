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
  #cuts = 0;
  readonly #cuttable = new Map<string, PowerCutImage>();

  constructor(setup: Setup, folder: string) {
    this.#setup = setup;
    this.#folder = folder;
  }

  /** `good`: whatever the others do. */
  async open(target: string, options: { readonly good: boolean }): Promise<BlockImage> {
    const image = await this.#openInner(target);
    return this.#setup.odd && !options.good ? new OddImage(image, this.#setup.seed) : image;
  }

  /** Nobody has a disk open any more: one whose power can be cut loses it, and has it again. */
  async endLife(target: string): Promise<void> {
    const image = this.#cuttable.get(target);
    if (image === undefined) return;
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
    for (const image of this.#cuttable.values()) await image.close();
  }

  async #openInner(target: string): Promise<BlockImage> {
    const { engine, direct, sectorSize } = this.#setup;
    if (engine === 'memory') return memoryImage({ data: this.#memory(target).data, sectorSize });
    if (engine === 'power-cut') return new KeptImage(this.#cuttableImage(target));
    const path = join(this.#folder, target);
    const fd = openSync(path, 'a');
    ftruncateSync(fd, BYTES);
    closeSync(fd);
    // io_uring where it works; the log says where it does not.
    return openFileImage(path, { engine: engine === 'io_uring' ? 'auto' : engine, direct });
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
