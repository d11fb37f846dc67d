import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockdError } from '../../errors.js';
import { findTool } from '../../tools.js';
import { adoptHelper, endHelpers } from './adoption/adopt.js';
import { usersOf } from './adoption/processes.js';
import { PROGRAM, storageDaemonArguments } from './arguments.js';
import { Backoff } from './backoff.js';
import { FailureReport, type StorageDaemonListener } from './events.js';
import { deviceFolder, HelperDirectory } from './helper-directory.js';
import { type Helper, HelperProcess } from './helper-process.js';
import { endReason, isLocked } from './reason.js';
import { DEFAULT_TIMES, type StorageDaemonTimes } from './times.js';

const POLL_MS = 10;
/** A connection that breaks is seen before the end of the process that broke it is. */
const END_MS = 1000;
/** Starts of which each was killed before the first opening gives up. */
const FIRST_STARTS = 3;
/** Between two starts while somebody else has the image. */
const LOCKED_PAUSE_MS = 100;

export interface StorageDaemonOptions {
  readonly path: string;
  /** One of STORAGE_DAEMON_FORMATS; never probed. */
  readonly format: string;
  readonly readOnly: boolean;
  /** Others may write it too: no locks. */
  readonly shared?: boolean | undefined;
  /** Where its folder is made; the system's for temporary files if undefined. */
  readonly directory?: string | undefined;
  /** The device that it is for, by which the next process finds it; only with `directory`. */
  readonly device?: string | undefined;
  /** An earlier process may have left one that serves the device, which goes on then. Otherwise one that is left is ended. */
  readonly adopt?: boolean | undefined;
  /** Has those let go of the image that earlier processes have left for others. Resolves with whether there were any. */
  readonly release?: ((path: string) => Promise<boolean>) | undefined;
  readonly onEvent?: StorageDaemonListener | undefined;
  readonly times?: Partial<StorageDaemonTimes> | undefined;
}

/** Those of this process that are about to let go of their images. */
const closing = new Map<StorageDaemon, Promise<unknown>>();

/**
 * The qemu-storage-daemon of one image. There is never more than one, and none after `close`. Once it was opened, one
 * that ends is started again, with growing pauses, for as long as it takes.
 */
export class StorageDaemon implements AsyncDisposable {
  readonly #options: StorageDaemonOptions;
  readonly #times: StorageDaemonTimes;
  readonly #report: FailureReport;
  readonly #directory: HelperDirectory;
  /** Of the latest start. */
  #arguments: readonly string[] = [];
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  #helper: Helper | undefined;
  /** What an earlier process has left was looked for. */
  #lookedFor = false;
  /** One of an earlier process lives, and is not ours to end. */
  #isLeft = false;
  #opening: Promise<unknown> | undefined;
  #watching: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Nothing runs yet. Error: ERR_SOCKET, no folder can be made. */
  constructor(options: StorageDaemonOptions) {
    this.#options = options;
    this.#times = { ...DEFAULT_TIMES, ...options.times };
    this.#report = new FailureReport(options.onEvent);
    this.#backoff = new Backoff({ firstMs: this.#times.retryMs, mostMs: this.#times.retryMostMs });
    this.#directory = directoryFor(options);
  }

  get socket(): string {
    return this.#directory.socket;
  }

  /** The file for writes that are not flushed, or undefined if no other process would find it. */
  get unflushed(): string | undefined {
    return this.#directory.unflushed;
  }

  /**
   * Runs `use` once it serves the image, and watches over it from then on. One that is killed before `use` is done is
   * started again, a few times; one that finds the image locked too, while who has it may be about to end. Errors: ERR_IMAGE, it refuses the image; ERR_TOOL, the program is not there; ERR_TIMEOUT,
   * it does not get ready; ERR_SOCKET; the signal's reason; what `use` rejects with.
   */
  open<T>(use: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const opening = this.#open(use, signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal);
    this.#opening = opening.catch(() => {});
    return opening;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close().finally(() => closing.delete(this));
    this.closesAfter(this.#closing);
    return this.#closing;
  }

  /** Its image is being closed: others that want it wait for that. */
  closesAfter(closed: Promise<unknown>): void {
    closing.set(this, closed);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    const ended = (await this.#helper?.stop(this.#times.stopMs)) ?? true;
    if (ended) {
      await this.#opening;
      await this.#watching;
    } else {
      this.#report.stuck(this.#helper?.pid);
    }
    if (this.#isLeft) this.#directory.leave();
    else this.#directory.remove();
  }

  async #open<T>(use: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    let kills = 0;
    const locked = { since: 0 };
    // What a disk of this process has kept must not come after what this one writes.
    await Promise.race([Promise.allSettled(this.#othersClosing()), aborted(signal)]);
    for (;;) {
      try {
        const helper = await this.#launch(signal);
        const result = await this.#use(helper, use, signal);
        this.#backoff.reset();
        this.#watching = this.#watch(helper);
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (this.#wasKilled(error)) {
          if (++kills === FIRST_STARTS) throw error;
          await sleep(this.#backoff.fail(), undefined, { signal });
        } else if (!isLocked(error) || !(await this.#mayBeLetGo(locked, signal))) throw error;
      }
    }
  }

  /** Resolves when the image is to be tried again, with true, or with false when who has it goes on using it. */
  async #mayBeLetGo(locked: { since: number }, signal: AbortSignal): Promise<boolean> {
    const { path, release } = this.#options;
    const { lockedMs, stopMs } = this.#times;
    const now = performance.now();
    locked.since ||= now;
    const own = now - locked.since < lockedMs + stopMs ? this.#othersClosing() : [];
    await Promise.race([Promise.allSettled(own), aborted(signal)]);
    const letGo = await Promise.race([release?.(path), aborted(signal)]);
    if (!letGo && own.length === 0) {
      if (now - locked.since > lockedMs || this.#isInUse()) return false;
      await sleep(LOCKED_PAUSE_MS, undefined, { signal });
    }
    signal.throwIfAborted();
    return true;
  }

  /** Whether somebody has the image who is neither ending nor left by an earlier process. */
  #isInUse(): boolean {
    const { path, directory } = this.#options;
    const left = directory === undefined ? [] : HelperDirectory.leftIn(directory);
    return usersOf(path).some((words) => !left.includes(words[words.indexOf('--pidfile') + 1]));
  }

  /** Others of this process that are about to let go of the image. */
  #othersClosing(): Promise<unknown>[] {
    const { path } = this.#options;
    const others = [...closing].filter(([daemon]) => daemon !== this && daemon.#options.path === path);
    return others.map(([, closed]) => closed);
  }

  /** By somebody else: it refuses nothing, and was not late. */
  #wasKilled(error: unknown): boolean {
    const end = this.#helper?.end;
    return (error as { code?: unknown }).code === 'ERR_IMAGE' && (end?.signal != null || end?.adopted === true);
  }

  /** `use` has a deadline, and what ended the process meanwhile is its error. */
  async #use<T>(helper: Helper, use: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const late = AbortSignal.timeout(this.#times.startMs);
    try {
      return await use(AbortSignal.any([signal, late]));
    } catch (error) {
      signal.throwIfAborted();
      if (late.aborted) throw this.#late('does not answer');
      const end = await Promise.race([helper.ended, sleep(END_MS)]);
      throw end ? this.#error('ERR_IMAGE', endReason(end, this.#arguments)) : error;
    }
  }

  /** One start, up to where it serves the image. What does not get so far has ended when this rejects. */
  async #launch(signal: AbortSignal): Promise<Helper> {
    await this.#predecessorGone(signal);
    signal.throwIfAborted();
    const { socket, monitor, pidFile } = this.#directory;
    this.#arguments = storageDaemonArguments({ ...this.#options, socket, monitor, pidFile });
    const adopted = await this.#adopted(signal);
    if (adopted) return adopted;
    const program = findProgram(this.#options);
    this.#directory.clear();
    const { path, format, readOnly } = this.#options;
    if (!readOnly) this.#directory.note({ path, format });
    const helper = new HelperProcess(program, this.#arguments, { argv0: PROGRAM });
    this.#helper = helper;
    try {
      await this.#ready(helper, signal);
      return helper;
    } catch (error) {
      if (!(await helper.stop(0))) this.#report.stuck(helper.pid);
      signal.throwIfAborted();
      throw error;
    }
  }

  /** What an earlier process has left goes on, or is gone when this resolves with undefined. */
  async #adopted(signal: AbortSignal): Promise<Helper | undefined> {
    const directory = this.#directory;
    if (this.#lookedFor || directory.unflushed === undefined) return undefined;
    const { path, readOnly, adopt } = this.#options;
    const [args, times] = [this.#arguments, this.#times];
    this.#isLeft = true;
    if (adopt) {
      const onUnusable = (pid: number, reason: string) => this.#report.unusable(pid, reason);
      this.#helper = await adoptHelper({ directory, path, readOnly, args, times, onUnusable, signal });
      if (this.#helper?.pid) this.#report.adopted(this.#helper.pid);
    } else await endHelpers(directory, path, times.stopMs);
    this.#isLeft = false;
    this.#lookedFor = true;
    return this.#helper;
  }

  async #ready(helper: HelperProcess, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + this.#times.startMs;
    for (;;) {
      if (helper.end) throw this.#error('ERR_IMAGE', endReason(helper.end, this.#arguments));
      if (existsSync(this.#directory.pidFile)) return;
      if (performance.now() > deadline) throw this.#late('does not get ready');
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  /** One that was killed and hangs in its storage keeps the image. */
  async #predecessorGone(signal: AbortSignal): Promise<void> {
    while (this.#helper && !this.#helper.end) {
      await Promise.race([this.#helper.ended, sleep(this.#times.retryMostMs, undefined, { signal })]);
    }
  }

  async #watch(helper: Helper): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      const began = performance.now();
      const end = await helper.ended;
      if (signal.aborted) return;
      const down = performance.now();
      if (down - began >= this.#times.wellMs) this.#backoff.reset();
      let pause = this.#failed('ended', endReason(end, this.#arguments));
      let next: Helper | undefined;
      while (!next) {
        try {
          await sleep(pause, undefined, { signal });
          next = await this.#launch(signal);
        } catch (error) {
          if (signal.aborted) return;
          pause = this.#failed('refused', (error as Error).message);
        }
      }
      this.#report.running(this.#backoff.failures, performance.now() - down);
      helper = next;
    }
  }

  /** Returns the milliseconds to wait before the next start. */
  #failed(kind: 'ended' | 'refused', reason: string): number {
    const pause = this.#backoff.fail();
    this.#report.failed(kind, reason, this.#backoff.failures);
    return pause;
  }

  #late(what: string): BlockdError {
    return this.#error('ERR_TIMEOUT', `${PROGRAM} ${what} within ${this.#times.startMs / 1000} seconds`);
  }

  #error(code: 'ERR_IMAGE' | 'ERR_TIMEOUT', reason: string): BlockdError {
    const { path } = this.#options;
    return new BlockdError(code, 'open image', `${path}: ${reason}`, { path });
  }
}

/** Resolves when the signal is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** A device that has the same image open twice has the second one in a folder of its own. */
function directoryFor({ path, format, readOnly, directory, device }: StorageDaemonOptions): HelperDirectory {
  const name = device && deviceFolder(device, [path, format, readOnly]);
  const named = directory && name ? HelperDirectory.tryNamed(directory, name) : undefined;
  return named ?? HelperDirectory.make(directory);
}

function findProgram({ path, format }: StorageDaemonOptions): string {
  const program = findTool(PROGRAM);
  if (program) return program;
  const advice = 'Debian: apt-get install qemu-system-common (or qemu-utils)';
  const message = `${path}: format ${format} needs ${PROGRAM}, which is not there or not executable; ${advice}`;
  throw new BlockdError('ERR_TOOL', 'open image', message, { path });
}
