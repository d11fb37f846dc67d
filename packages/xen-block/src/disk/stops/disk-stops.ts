import { BlkifOp } from '@xenpv/blkif';
import type { DeviceAddress } from '@xenpv/xenbus';
import { gaveUpChannel, resumedChannel, stoppedChannel, storageErrorChannel } from '../../diagnostics.js';
import type { DiskStop } from '../../disk-description.js';
import { errnoName } from '../../plane/accounting/errno-name.js';
import type { GivenUpRequest, StorageFailure } from '../../plane/rings/ring-options.js';
import type { DiskRings } from '../disk-rings.js';

const OPERATIONS: Readonly<Record<number, string>> = {
  [BlkifOp.read]: 'read',
  [BlkifOp.write]: 'write',
  [BlkifOp.writeBarrier]: 'barrier',
  [BlkifOp.flushDiskcache]: 'flush',
  [BlkifOp.discard]: 'discard',
};

/** Whether a disk is stopped by an error of its storage. One ring that stops has all of them stop. */
export class DiskStops {
  readonly #address: DeviceAddress;
  readonly #rings: () => DiskRings;
  /** Who is told of a stop as it happens. */
  readonly #onStop: (stop: DiskStop) => void;
  #stop: DiskStop | undefined;

  constructor(address: DeviceAddress, rings: () => DiskRings, onStop: (stop: DiskStop) => void) {
    this.#address = address;
    this.#rings = rings;
    this.#onStop = onStop;
  }

  /** Why and since when, or undefined. */
  get stop(): DiskStop | undefined {
    return this.#stop;
  }

  storageError(failure: StorageFailure, count: number): void {
    if (!storageErrorChannel.hasSubscribers) return;
    storageErrorChannel.publish({ address: this.#address, ...inWords(failure), count });
  }

  gaveUp({ operation, sector }: GivenUpRequest, count: number): void {
    if (!gaveUpChannel.hasSubscribers) return;
    gaveUpChannel.publish({ address: this.#address, operation: nameOf(operation), sector, count });
  }

  stopped(failure: StorageFailure): void {
    if (this.#stop) return;
    this.#stop = { since: new Date(), ...inWords(failure) };
    this.#rings().stop();
    stoppedChannel.publish({ address: this.#address, stop: this.#stop });
    this.#onStop(this.#stop);
  }

  /** Rings were attached: one of them may have stopped meanwhile. */
  attached(): void {
    if (this.#stop) this.#rings().stop();
  }

  /** Resolves, when the kept requests are on their way, with whether the disk was stopped. */
  async resume(): Promise<boolean> {
    // Whoever is told of a stop may be within a pass over the rings.
    await Promise.resolve();
    if (!this.#stop) return false;
    this.#over('resume');
    await this.#rings().restart();
    return true;
  }

  /** The rings are gone. */
  disconnected(by: 'disconnect' | 'leave'): void {
    if (this.#stop) this.#over(by);
  }

  #over(by: 'resume' | 'disconnect' | 'leave'): void {
    this.#stop = undefined;
    resumedChannel.publish({ address: this.#address, by });
  }
}

function nameOf(operation: number): string {
  return OPERATIONS[operation] ?? `operation ${operation}`;
}

function inWords({ operation, errno, offset, length }: StorageFailure): Omit<DiskStop, 'since'> {
  return { operation: nameOf(operation), errno: errnoName(errno), offset, length };
}
