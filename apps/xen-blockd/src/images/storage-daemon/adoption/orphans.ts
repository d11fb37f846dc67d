import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { holdsUnflushed } from '@xenpv/blockdev';
import { BlockdError } from '../../../errors.js';
import { isNetworkDriver } from '../../network/source.js';
import { deviceFolder, HelperDirectory } from '../helper-directory.js';
import { isLocked } from '../reason.js';
import type { HelperBounds } from '../storage-daemon.js';
import { DEFAULT_TIMES } from '../times.js';
import { writeBack } from '../write-back.js';
import { endHelpers } from './adopt.js';
import { removeLeftSnapshot } from './left-snapshot.js';
import { endLeftTargets } from './left-targets.js';
import { hasOpen, helpersWith, isSameFile } from './processes.js';

/** Between two looks. */
const LOOK_MS = 5000;
/** Attempts at writing back, whose helpers somebody may kill. */
const ATTEMPTS = 5;

/** Why something of an earlier process could not be ended or removed. */
export interface OrphanFailure {
  readonly path: string;
  readonly error: Error;
}

export interface OrphansOptions {
  /** In which the folders of devices are. */
  readonly directory: string;
  /**
   * Whether nobody will ask for what was left for a device in this folder: the device is gone, or has another image by now.
   * Rejects when that cannot be told now.
   */
  readonly isGone: (device: string, folder: string) => Promise<boolean>;
  /** What holds for a helper that sends kept writes to an image now. */
  readonly bounds?: (() => HelperBounds) | undefined;
  /** Told of each folder once. */
  readonly onFailure: (failure: OrphanFailure) => void;
  /** Milliseconds in which a helper writes back what it holds. */
  readonly stopMs?: number | undefined;
  readonly lookMs?: number | undefined;
}

/**
 * What earlier processes have left in folders of devices: helpers that live, and writes that no flush has covered. When
 * a device is gone, or has another image, its helpers are asked to end, which makes them write back what they hold; writes that were kept are sent
 * to the image; and the folder is removed.
 * What this process uses is left alone, and so is what a device may come back for.
 */
export class Orphans implements AsyncDisposable {
  readonly #options: OrphansOptions;
  readonly #stop = new AbortController();
  /** By the folder's name. */
  readonly #ends = new Map<string, Promise<Error | undefined>>();
  readonly #told = new Set<string>();
  #looking: Promise<void> | undefined;

  constructor(options: OrphansOptions) {
    this.#options = options;
  }

  /** Looks for them now, and from time to time: a device can go before this process has taken over what was left for it. */
  start(): void {
    this.#looking ??= this.#look();
  }

  /**
   * Ends what was left for an image by devices that have it no more. Resolves when nobody has the image for them any more, and
   * what they wrote is in it, with whether there was anything. Error: ERR_IMAGE, that cannot be written to it.
   */
  async release(path: string): Promise<boolean> {
    const ends = await Promise.all(this.#names().map((found) => this.#releases(found, path)));
    return ends.some((end) => end);
  }

  /** Resolves when nothing is being ended that was left for a device: its folder may be used then. */
  async settled(device: string): Promise<void> {
    await Promise.all([...this.#ends].map(([name, end]) => (name.startsWith(`${device}-`) ? end : undefined)));
  }

  /** What is being ended has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#looking;
    await Promise.all(this.#ends.values());
  }

  #names(): { readonly name: string; readonly device: string }[] {
    return HelperDirectory.devicesIn(this.#options.directory);
  }

  async #releases({ name, device }: { name: string; device: string }, path: string): Promise<boolean> {
    const isEnding = this.#ends.has(name);
    if (!isEnding && HelperDirectory.isUsed(this.#options.directory, name)) return false;
    if (!this.#isFor(name, path) || !(isEnding || (await this.#isGone(device, name)))) return false;
    const failure = await this.#end(name, device);
    if (failure) throw notWrittenBack(path, failure);
    return true;
  }

  #isFor(name: string, path: string): boolean {
    const { directory: base } = this.#options;
    const { pidFile } = HelperDirectory.filesIn(base, name);
    const image = HelperDirectory.imageIn(base, name);
    return (image && isSameFile(image.path, path)) || helpersWith(pidFile).some((pid) => hasOpen(pid, path));
  }

  async #look(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await Promise.all(this.#names().map(async ({ name, device }) => this.#endIfGone(name, device)));
      await sleep(this.#options.lookMs ?? LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #endIfGone(name: string, device: string): Promise<void> {
    if (this.#told.has(name) || HelperDirectory.isUsed(this.#options.directory, name)) return;
    if (await this.#isGone(device, name)) await this.#end(name, device);
  }

  /** Where that cannot be told, it is not: it is asked again. */
  async #isGone(device: string, folder: string): Promise<boolean> {
    return this.#options.isGone(device, folder).catch(() => false);
  }

  /** Resolves with an error when writes are left that cannot be written back. */
  #end(name: string, device: string): Promise<Error | undefined> {
    const running = this.#ends.get(name);
    if (running || this.#stop.signal.aborted) return running ?? Promise.resolve(undefined);
    const end = this.#endNow(name, device).finally(() => this.#ends.delete(name));
    this.#ends.set(name, end);
    return end;
  }

  async #endNow(name: string, device: string): Promise<Error | undefined> {
    const { directory: base, stopMs = DEFAULT_TIMES.stopMs } = this.#options;
    try {
      const directory = HelperDirectory.tryNamed(base, name);
      if (!directory) return undefined;
      await endHelpers(directory, directory.path, stopMs).finally(() => directory.leave());
      await endLeftTargets(directory.path);
      removeLeftSnapshot(directory.path);
      await this.#writeBack(name, device);
      HelperDirectory.tryNamed(base, name)?.remove('with all');
      return undefined;
    } catch (error) {
      this.#tell(name, error as Error);
      return error as Error;
    }
  }

  async #writeBack(name: string, device: string): Promise<void> {
    const { directory, bounds } = this.#options;
    if (!holdsUnflushed(HelperDirectory.filesIn(directory, name).unflushed)) return;
    const image = HelperDirectory.imageIn(directory, name);
    if (!image || deviceFolder(device, [image.path, image.format, false]) !== name) return;
    if (!isNetworkDriver(image.format) && !existsSync(image.path)) throw notThere(image.path);
    for (let attempts = 1; ; attempts++) {
      try {
        return await writeBack({ directory, device, image, bounds: bounds?.() });
      } catch (error) {
        // Somebody else writes the image by now: what was kept is older than that.
        if (isLocked(error)) return this.#tell(name, error as Error);
        if (attempts === ATTEMPTS || this.#stop.signal.aborted) throw error;
      }
    }
  }

  #tell(name: string, error: Error): void {
    if (this.#told.has(name)) return;
    this.#told.add(name);
    this.#options.onFailure({ path: `${this.#options.directory}/${name}`, error });
  }
}

/** It may come back, as with a folder that is mounted late. */
function notThere(path: string): BlockdError {
  const text = `${path} is not there; what was written to it and not flushed is kept until it is`;
  return new BlockdError('ERR_IMAGE', 'open image', text, { path });
}

function notWrittenBack(path: string, { message }: Error): BlockdError {
  const text = `${path}: what another disk had written to it before cannot be written back: ${message}`;
  return new BlockdError('ERR_IMAGE', 'open image', text, { path });
}
