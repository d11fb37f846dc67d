import { setTimeout as sleep } from 'node:timers/promises';
import { HelperDirectory } from '../helper-directory.js';
import { DEFAULT_TIMES } from '../times.js';
import { endHelpers } from './adopt.js';
import { hasOpen, helpersWith } from './processes.js';

/** Between two looks. */
const LOOK_MS = 5000;

/** Why something of an earlier process could not be ended or removed. */
export interface OrphanFailure {
  readonly path: string;
  readonly error: Error;
}

export interface OrphansOptions {
  /** In which the folders of devices are. */
  readonly directory: string;
  /** Whether nobody will ask for what was left for a device. Rejects when that cannot be told now. */
  readonly isGone: (device: string) => Promise<boolean>;
  /** Told of each folder once. */
  readonly onFailure: (failure: OrphanFailure) => void;
  /** Milliseconds in which a helper writes back what it holds. */
  readonly stopMs?: number | undefined;
  readonly lookMs?: number | undefined;
}

/**
 * What earlier processes have left in folders of devices: helpers that live, and writes that no flush has covered. When
 * a device is gone its helpers are asked to end, which makes them write back what they hold, and its folder is removed.
 * What this process uses is left alone, and so is what a device may come back for.
 */
export class Orphans implements AsyncDisposable {
  readonly #options: OrphansOptions;
  readonly #stop = new AbortController();
  /** By the folder's name. */
  readonly #ends = new Map<string, Promise<void>>();
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
   * Ends the helpers that have an image open whose devices are gone. Resolves when they have ended, with whether there
   * were any.
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
    const ending = this.#ends.get(name);
    if (ending) {
      await ending;
      return true;
    }
    if (HelperDirectory.isUsed(this.#options.directory, name)) return false;
    const pids = helpersWith(HelperDirectory.pidFileIn(this.#options.directory, name));
    if (!pids.some((pid) => hasOpen(pid, path)) || !(await this.#isGone(device))) return false;
    await this.#end(name);
    return true;
  }

  async #look(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await Promise.all(this.#names().map(async ({ name, device }) => this.#endIfGone(name, device)));
      await sleep(this.#options.lookMs ?? LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #endIfGone(name: string, device: string): Promise<void> {
    if (HelperDirectory.isUsed(this.#options.directory, name)) return;
    if (await this.#isGone(device)) await this.#end(name);
  }

  /** Where that cannot be told, it is not: it is asked again. */
  async #isGone(device: string): Promise<boolean> {
    return this.#options.isGone(device).catch(() => false);
  }

  #end(name: string): Promise<void> {
    const running = this.#ends.get(name);
    if (running || this.#stop.signal.aborted) return running ?? Promise.resolve();
    const end = this.#endNow(name).finally(() => this.#ends.delete(name));
    this.#ends.set(name, end);
    return end;
  }

  async #endNow(name: string): Promise<void> {
    const { directory: base, stopMs = DEFAULT_TIMES.stopMs, onFailure } = this.#options;
    let directory: HelperDirectory | undefined;
    try {
      directory = HelperDirectory.tryNamed(base, name);
      if (!directory) return;
      await endHelpers(directory, directory.path, stopMs);
      directory.remove('with all');
    } catch (error) {
      directory?.leave();
      if (this.#told.has(name)) return;
      this.#told.add(name);
      onFailure({ path: directory?.path ?? base, error: error as Error });
    }
  }
}
