import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { PinnedFile } from '@xenpv/blockdev';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { BlockdError } from '../../errors.js';
import { findTool } from '../../tools.js';
import { type ChainPolicy, ImageChain } from '../chain/chain.js';
import { advised } from '../network/advice.js';
import type { NetworkSettings } from '../network/settings.js';
import { isNetworkDriver, type NetworkSource, networkIdentity, openNetworkSource } from '../network/source.js';
import { refusal } from '../refusal.js';
import { abandonable } from './abandon.js';
import { adoptHelper, endHelpers, killedHelpersGone } from './adoption/adopt.js';
import { removeLeftSnapshot } from './adoption/left-snapshot.js';
import { endLeftTargets } from './adoption/left-targets.js';
import { usersOf } from './adoption/processes.js';
import {
  driverOf,
  fileName,
  networkArguments,
  networkNode,
  PROGRAM,
  type StorageDaemonTask,
  storageDaemonArguments,
} from './arguments.js';
import { Backoff } from './backoff.js';
import { cagedCommand, cageProblem, findUser, fitsIntoCage, type HelperCommand } from './cage.js';
import { FailureReport, type StorageDaemonListener } from './events.js';
import { deviceFolder, HelperDirectory } from './helper-directory.js';
import { type Helper, HelperProcess, type ProcessEnd } from './helper-process.js';
import { endsSoon, finalizeJobs } from './monitor/finalize.js';
import { KeptMonitor, type MonitorOptions, openMonitor } from './monitor/monitor.js';
import { OwnedJobs } from './monitor/owned-jobs.js';
import { reopenInHelper } from './monitor/reopen.js';
import { resizeInHelper, SizeRefused } from './monitor/resize.js';
import { endReason, isLocked } from './reason.js';
import { DEFAULT_TIMES, NETWORK_TIMES, type StorageDaemonTimes } from './times.js';

const POLL_MS = 10;
/** A connection that breaks is seen before the end of the process that broke it is. */
const END_MS = 1000;
/** Starts of which each ended by a signal before the first opening gives up. */
const FIRST_STARTS = 3;
/** Not the program's own end: somebody else did that, and no image is the reason. It is tried again for as long as a start may take. */
const OUTSIDE_SIGNALS: readonly (string | null | undefined)[] = ['SIGKILL', 'SIGTERM'];
/** Between two starts while somebody else has the image. */
const LOCKED_PAUSE_MS = 100;

/** Which files a helper may have, and as whom it runs. */
export type HelperBounds = Pick<StorageDaemonOptions, 'chain' | 'user' | 'network'>;

export interface StorageDaemonOptions {
  /** A file's, or the target of an image on the network. */
  readonly path: string;
  /** One of IMAGE_FORMATS, or a NetworkDriver; never probed. */
  readonly format: string;
  readonly readOnly: boolean;
  /** Others may write it too: no locks. */
  readonly shared?: boolean | undefined;
  /** Which files the image, and what it names, may be. */
  readonly chain?: ChainPolicy | undefined;
  /** How images on the network are reached. */
  readonly network?: NetworkSettings | undefined;
  /** The system's name of the user that it runs as, where it is caged; root if undefined or if there is none. */
  readonly user?: string | undefined;
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

/** One of the images that an image is made of. */
export interface ImageLayer {
  /** As the layer above names it, as a whole path if the image's own is one. */
  readonly path: string;
  /** QEMU's. */
  readonly driver: string;
}

interface Awaited {
  resolve(): void;
  reject(error: unknown): void;
}

/** Those of this process that are about to let go of their images. */
const closing = new Map<StorageDaemon, Promise<unknown>>();

/**
 * The qemu-storage-daemon of one image. There is never more than one, and none after `close`. Once it was opened, one
 * that ends is started again, with growing pauses, for as long as it takes.
 */
export class StorageDaemon implements AsyncDisposable {
  readonly jobs = new OwnedJobs();
  readonly #options: StorageDaemonOptions;
  readonly #times: StorageDaemonTimes;
  readonly #report: FailureReport;
  readonly #directory: HelperDirectory;
  /** Of the latest start. */
  #arguments: readonly string[] = [];
  #files: readonly string[] = [];
  /** Undefined of a helper that was adopted: what it was started with is not known. */
  #layers: readonly ImageLayer[] | undefined;
  #isCaged = false;
  /** Backing files that the helper may write, by their depth. */
  #written: readonly number[] = [];
  /** Why the helper is ended, if it is for its storage's silence. */
  #silence: string | undefined;
  /** Somebody waits for another helper in the place of this one. */
  #awaited: Awaited | undefined;
  /** The image's file, since it was first found. */
  #image: FoundImage | undefined;
  /** Of the latest start, where the image is on the network. */
  #source: NetworkSource | undefined;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  #helper: Helper | undefined;
  /** What an earlier process has left was looked for. */
  #lookedFor = false;
  /** One of an earlier process lives, and is not ours to end. */
  #isLeft = false;
  #opening: Promise<unknown> | undefined;
  #watching: Promise<void> | undefined;
  #resizing: Promise<void> = Promise.resolve();
  readonly #monitor: KeptMonitor;
  #closing: Promise<void> | undefined;

  /** Nothing runs yet. Error: ERR_SOCKET, no folder can be made. */
  constructor(options: StorageDaemonOptions) {
    this.#options = options;
    this.#times = { ...DEFAULT_TIMES, ...(isNetworkDriver(options.format) && NETWORK_TIMES), ...options.times };
    this.#report = new FailureReport(options.onEvent);
    this.#backoff = new Backoff({ firstMs: this.#times.retryMs, mostMs: this.#times.retryMostMs });
    this.#directory = directoryFor(options);
    this.#monitor = new KeptMonitor(() => openMonitor(this.#directory.monitor, this.#monitorOptions));
  }

  get socket(): string {
    return this.#directory.socket;
  }

  /** What of the system's files a helper can reach besides its image's: the folder of its sockets. */
  get folder(): string {
    return this.#directory.path;
  }

  /** The same, or undefined if no other process would find it. */
  get lastingFolder(): string | undefined {
    return this.unflushed === undefined ? undefined : this.folder;
  }

  /** The identity of a BlockImage, or undefined if it was not found yet. */
  get identity(): string | undefined {
    return this.#image?.identity;
  }

  /** A number that is the file's own, or 0: devices have other numbers when they are found again. */
  get fileNumber(): number {
    return this.#image?.inode === undefined ? 0 : Number(BigInt.asIntN(32, this.#image.inode));
  }

  /** The file for writes that are not flushed, or undefined if no other process would find it. */
  get unflushed(): string | undefined {
    return this.#directory.unflushed;
  }

  /**
   * Runs `use` once it serves the image, and watches over it from then on. One that is killed before `use` is done is
   * started again, for as long as a start may take, and a few times where it killed itself; one that finds the image locked too, while who has it may be about to end. Errors: ERR_IMAGE, it refuses the image; ERR_TOOL, the program is not there; ERR_TIMEOUT,
   * it does not get ready; ERR_SOCKET; the signal's reason; what `use` rejects with.
   */
  open<T>(use: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const opening = this.#open(use, signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal);
    this.#opening = opening.catch(() => {});
    return opening;
  }

  /** The conversation with the helper's monitor, which is kept open. Rejects while there is no helper, or it does not answer. */
  monitor(): Promise<QmpClient> {
    return this.#monitor.of(this.#helper);
  }

  /**
   * The image gets that many bytes, and its export too: clients connect to it anew. One resize at a time. Errors: ERR_IMAGE, it cannot
   * be of that size, and is as it was; ERR_TOOL, the helper is not there, or does not answer, and it may be of either size.
   */
  resize(bytes: number): Promise<void> {
    const resized = this.#resizing.then(() => this.#resize(bytes));
    this.#resizing = resized.catch(() => {});
    return resized;
  }

  /** The image, its backing file, and so on, as they are now; none of an image on the network. Errors: as ImageChain.open. */
  async layers(): Promise<readonly ImageLayer[]> {
    if (this.#layers) return this.#layers;
    const { path, format, chain: policy = {} } = this.#options;
    if (isNetworkDriver(format)) return [];
    const chain = await ImageChain.open(path, driverOf(format), policy);
    return chain.close().then(() => layersOf(chain));
  }

  /**
   * From now on the helper may write these backing files too, numbered from 1 on, and none besides. Where it may not do that
   * yet another one takes its place, and requests wait for that. Errors: ERR_TOOL, it cannot be; the helper is as it was then.
   */
  async letWrite(depths: readonly number[]): Promise<void> {
    const isKnown = this.#layers !== undefined;
    const isSame = String(depths) === String(this.#written);
    this.#written = depths;
    if (!isKnown || (this.#isCaged && !isSame)) await this.renew();
  }

  /** What {@link letWrite} has allowed ends with the helper that is there. */
  letWriteNoMore(): void {
    this.#written = [];
  }

  /** Another helper takes the place of the one that is there, with the image's files as they are now. Error: ERR_TOOL. */
  async renew(): Promise<void> {
    const helper = this.#helper;
    if (!helper || helper.end || !this.#watching || this.#awaited) {
      throw this.#error('ERR_TOOL', `${PROGRAM} is being started; try again`);
    }
    const renewed = new Promise<void>((resolve, reject) => {
      this.#awaited = { resolve, reject };
    });
    const stop = () => this.#awaited?.reject(this.#error('ERR_TOOL', 'the image is being closed'));
    this.#stop.signal.addEventListener('abort', stop, { once: true });
    try {
      await Promise.all([renewed, helper.stop(this.#times.stopMs)]);
    } finally {
      this.#awaited = undefined;
      this.#stop.signal.removeEventListener('abort', stop);
    }
  }

  /**
   * Its storage has not answered for so many seconds. Another helper is started, which waits for it: what is asked of this one
   * fails at last, and must not be done after that.
   */
  async endSilent(seconds: number): Promise<void> {
    const helper = this.#helper;
    if (!helper || helper.end || !this.#watching || this.#awaited) return;
    const advice = this.#source ? `; ${this.#source.advice}` : '';
    this.#silence = `its storage has not answered for ${seconds} seconds${advice}`;
    if (!(await helper.stop(0))) this.#report.stuck(helper.pid);
  }

  /** An image on the network is opened anew, and has the size then that it has by now. Error: ERR_TOOL. */
  reopen(): Promise<void> {
    const reopened = this.#resizing.then(() => this.#reopen());
    this.#resizing = reopened.catch(() => {});
    return reopened;
  }

  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#closing = this.#close().finally(() => closing.delete(this));
      this.closesAfter(this.#closing);
    }
    return this.#closing;
  }

  /** Its image is being closed: others that want it wait for that. */
  closesAfter(closed: Promise<unknown>): void {
    closing.set(this, closed);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #resize(bytes: number): Promise<void> {
    const job = this.jobs.current;
    // Its export would be made anew past the job's look at each write.
    if (job)
      throw this.#error('ERR_IMAGE', `block job ${job.id} (${job.type}) runs: wait for it, or block-job-cancel it`);
    const [helper, task, times, { signal }] = [this.#helper, this.#task, this.#times, this.#stop];
    try {
      await resizeInHelper({ helper, monitor: await this.monitor(), task, times, bytes, signal });
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof SizeRefused) throw this.#error('ERR_IMAGE', message);
      throw this.#error('ERR_TOOL', `its size may have changed: ${message}; try again, or refresh the disk`);
    }
  }

  async #reopen(): Promise<void> {
    const { path, format, network: settings, readOnly } = this.#options;
    const job = this.jobs.current;
    if (job || !isNetworkDriver(format)) return;
    const [helper, task, times, { signal }] = [this.#helper, this.#task, this.#times, this.#stop];
    const source = this.#source ?? (await openNetworkSource(path, format, { readOnly, settings, fileName }));
    try {
      const node = networkNode(task, source);
      await reopenInHelper({ helper, monitor: await this.monitor(), task, times, node, signal });
    } catch (error) {
      throw this.#error('ERR_TOOL', advised(`it cannot be opened anew: ${(error as Error).message}`, source.driver));
    } finally {
      if (source !== this.#source) await closeFiles(source);
    }
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
    await this.jobs.abandon();
    this.#tellLostJobs('stopped');
    if (this.#isLeft) this.#directory.leave();
    else this.#directory.remove();
  }

  async #open<T>(use: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    let kills = 0;
    const began = performance.now();
    const locked = { since: 0 };
    // What a disk of this process has kept must not come after what this one writes.
    await abandonable(Promise.allSettled(this.#othersClosing()), signal);
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
          const outside = OUTSIDE_SIGNALS.includes(this.#helper?.end?.signal);
          if (++kills >= FIRST_STARTS && (!outside || performance.now() - began > this.#times.startMs)) throw error;
          await sleep(this.#backoff.fail(), undefined, { signal });
        } else if (!isLocked(error) || !(await this.#mayBeLetGo(locked, signal))) throw error;
      }
    }
  }

  /** Resolves when the image is to be tried again, with true, or with false when who has it goes on using it. */
  async #mayBeLetGo(locked: { since: number }, signal: AbortSignal): Promise<boolean> {
    const { path, release } = this.#options;
    const { lockedMs, stopMs, unawareMs } = this.#times;
    const now = performance.now();
    locked.since ||= now;
    const own = now - locked.since < lockedMs + stopMs ? this.#othersClosing() : [];
    await abandonable(Promise.allSettled(own), signal);
    const released = () => abandonable(Promise.resolve(release?.(path)), signal);
    if (!(await released()) && own.length === 0) {
      const lockedFor = now - locked.since;
      if (lockedFor > lockedMs) return false;
      // One that this process began to end since it was asked is in use by this process.
      if (lockedFor > unawareMs && this.#isInUse() && !(await released()) && this.#isInUse()) return false;
      await sleep(LOCKED_PAUSE_MS, undefined, { signal });
    }
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
      throw end ? this.#error('ERR_IMAGE', this.#reason(end)) : error;
    }
  }

  /** One start, up to where it serves the image. What does not get so far has ended when this rejects. */
  async #launch(signal: AbortSignal): Promise<Helper> {
    await this.#predecessorGone(signal);
    signal.throwIfAborted();
    const adopted = await this.#adopted(signal);
    if (adopted) return adopted;
    const { path, shared } = this.#options;
    if (shared) await killedHelpersGone(path, signal);
    const program = findProgram(this.#options);
    const opened = await abandonable(this.#opened(), signal, closeFiles);
    try {
      await this.#sameImage(opened);
      return await this.#start(program, opened, signal);
    } finally {
      // It has them by now, or has ended.
      await closeFiles(opened);
    }
  }

  #opened(): Promise<OpenedImage> {
    const { path, format, chain = {}, network: settings, readOnly } = this.#options;
    if (isNetworkDriver(format)) return openNetworkSource(path, format, { readOnly, settings, fileName });
    return ImageChain.open(path, driverOf(format), chain);
  }

  async #start(program: string, opened: OpenedImage, signal: AbortSignal): Promise<Helper> {
    this.#files = opened.files.map(({ path }) => path);
    this.#source = isOnNetwork(opened) ? opened : undefined;
    this.#layers = isOnNetwork(opened) ? [] : layersOf(opened);
    this.#arguments = isOnNetwork(opened)
      ? networkArguments(this.#task, opened)
      : storageDaemonArguments(this.#task, opened);
    this.#directory.clear();
    const { path, format, readOnly } = this.#options;
    if (!readOnly) this.#directory.note({ path, format });
    const command = await this.#command(program, opened);
    signal.throwIfAborted();
    const helper = new HelperProcess(command.program, command.args, command.options);
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

  get #monitorOptions(): MonitorOptions {
    const onEvent = (event: QmpEvent) => {
      void this.jobs.hear(event, (reason) => this.#report.monitorSays(event, reason));
      if (endsSoon(event)) void this.#finalizeJobs();
    };
    return { answerMs: this.#times.answerMs, signal: this.#stop.signal, onEvent };
  }

  /** A helper that ends meanwhile has no jobs any more, and what they did is done again. */
  async #finalizeJobs(): Promise<void> {
    await this.monitor()
      .then((monitor) => finalizeJobs(monitor, this.socket, this.jobs))
      .catch(() => {});
  }

  get #task(): StorageDaemonTask {
    const { socket, monitor, pidFile } = this.#directory;
    return { ...this.#options, socket, monitor, pidFile };
  }

  async #command(program: string, opened: OpenedImage): Promise<HelperCommand> {
    const { files } = opened;
    const args = this.#arguments;
    const environment = isOnNetwork(opened) ? opened.environment : undefined;
    const problem = await cageProblem();
    // Whoever is not root has nothing more than his own rights to give away.
    if (problem !== undefined && process.geteuid?.() === 0) this.#report.uncaged(problem);
    this.#isCaged = problem === undefined && fitsIntoCage(program);
    if (!this.#isCaged) {
      // The descriptors are the same files, whatever their paths are by now.
      const env = environment && { ...process.env, ...environment };
      return { program, args, options: { argv0: PROGRAM, files: files.map(({ fd }) => fd), ...(env && { env }) } };
    }
    const written = this.#options.readOnly || isOnNetwork(opened) ? [] : this.#writtenFiles(opened);
    const readOnly = new Set(files.filter((file) => !written.includes(file)));
    const user = this.#options.user === undefined ? undefined : findUser(this.#options.user);
    const [folder, network] = [this.#directory.path, isOnNetwork(opened)];
    return cagedCommand({ program, args, files, readOnly, folder, user, network, environment });
  }

  /** Files of a chain that the helper may write. */
  #writtenFiles({ top, layers }: ImageChain): readonly unknown[] {
    const more = layers.filter((_, depth) => this.#written.includes(depth)).map(({ file }) => file);
    return [top.file, top.dataFile, ...more];
  }

  /** What was written so far, and what is written again, is of one file. */
  async #sameImage(opened: OpenedImage): Promise<void> {
    const found = isOnNetwork(opened) ? onNetwork(opened.identity) : await foundImage(opened.files[0]);
    const { path } = this.#options;
    this.#image ??= found;
    if (isOnNetwork(opened) ? this.#image.identity === found.identity : this.#image.inode === found.inode) return;
    throw refusal(
      path,
      'it is not the file that this disk has written to before; put that one back, or detach the disk',
    );
  }

  /** What an earlier process has left goes on, or is gone when this resolves with undefined. */
  async #adopted(signal: AbortSignal): Promise<Helper | undefined> {
    const directory = this.#directory;
    if (this.#lookedFor || directory.unflushed === undefined) return undefined;
    const { path, format, network, adopt } = this.#options;
    const [task, times] = [this.#task, this.#times];
    this.#isLeft = true;
    if (adopt) {
      const onUnusable = (pid: number, reason: string) => this.#report.unusable(pid, reason);
      const { onEvent } = this.#monitorOptions;
      this.#helper = await adoptHelper({ directory, task, times, onUnusable, onEvent, signal });
      if (this.#helper?.pid) {
        this.#layers = undefined;
        this.#report.adopted(this.#helper.pid);
        void this.#finalizeJobs();
        const found = isNetworkDriver(format)
          ? Promise.resolve(onNetwork(networkIdentity(path, format, network)))
          : findImage(path);
        this.#image = await abandonable(found, signal);
      }
    } else await endHelpers(directory, path, times.stopMs);
    await endLeftTargets(directory.path);
    removeLeftSnapshot(directory.path);
    this.#isLeft = false;
    this.#lookedFor = true;
    return this.#helper;
  }

  async #ready(helper: HelperProcess, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + this.#times.startMs;
    for (;;) {
      if (helper.end) throw this.#error('ERR_IMAGE', this.#reason(helper.end));
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
      this.#tellLostJobs(this.#awaited ? 'stopped' : 'died');
      if (down - began >= this.#times.wellMs) this.#backoff.reset();
      let pause = this.#awaited ? 0 : this.#failed('ended', this.#silence ?? this.#reason(end));
      this.#silence = undefined;
      let next: Helper | undefined;
      while (!next) {
        try {
          await sleep(pause, undefined, { signal });
          next = await this.#launch(signal);
        } catch (error) {
          if (signal.aborted) return;
          this.#written = [];
          this.#awaited?.reject(
            this.#error('ERR_TOOL', `its helper cannot be started so: ${(error as Error).message}`),
          );
          this.#awaited = undefined;
          pause = this.#failed('refused', (error as Error).message);
        }
      }
      this.#awaited?.resolve();
      this.#report.running(this.#backoff.failures, performance.now() - down);
      helper = next;
    }
  }

  /** Jobs end with their helper, and nobody else says so. */
  #tellLostJobs(how: 'stopped' | 'died'): void {
    for (const event of this.jobs.lost(how)) this.#report.monitorSays(event);
  }

  /** Returns the milliseconds to wait before the next start. */
  #failed(kind: 'ended' | 'refused', reason: string): number {
    const pause = this.#backoff.fail();
    this.#report.failed(kind, reason, this.#backoff.failures);
    return pause;
  }

  #reason(end: ProcessEnd): string {
    const reason = endReason(end, this.#arguments, this.#files);
    return this.#source ? advised(reason, this.#source.driver) : reason;
  }

  #late(what: string): BlockdError {
    const advice = this.#source ? `; ${this.#source.advice}` : '';
    return this.#error('ERR_TIMEOUT', `${PROGRAM} ${what} within ${this.#times.startMs / 1000} seconds${advice}`);
  }

  #error(code: 'ERR_IMAGE' | 'ERR_TIMEOUT' | 'ERR_TOOL', reason: string): BlockdError {
    const { path } = this.#options;
    return new BlockdError(code, 'open image', `${path}: ${reason}`, { path });
  }
}

function layersOf({ layers }: ImageChain): readonly ImageLayer[] {
  return layers.map(({ driver, file: { path } }) => ({ path, driver }));
}

/** What a helper is to have. */
type OpenedImage = ImageChain | NetworkSource;

function isOnNetwork(opened: OpenedImage): opened is NetworkSource {
  return 'node' in opened;
}

async function closeFiles({ files }: OpenedImage): Promise<void> {
  for (const file of files) await file.close();
}

/** A device that has the same image open twice has the second one in a folder of its own. */
function directoryFor({ path, format, readOnly, directory, device }: StorageDaemonOptions): HelperDirectory {
  const name = device && deviceFolder(device, [path, format, readOnly]);
  const named = directory && name ? HelperDirectory.tryNamed(directory, name) : undefined;
  return named ?? HelperDirectory.make(directory);
}

/** Which file an image is. */
interface FoundImage {
  readonly identity: string;
  /** Undefined for a block device. */
  readonly inode: bigint | undefined;
}

function onNetwork(identity: string): FoundImage {
  return { identity, inode: undefined };
}

async function foundImage(file: PinnedFile): Promise<FoundImage> {
  return { identity: await file.identity(), inode: file.blockDevice ? undefined : file.stats.ino };
}

/** Of one that is adopted; undefined if it has moved away. */
async function findImage(path: string): Promise<FoundImage | undefined> {
  try {
    const file = await PinnedFile.open(path);
    return await foundImage(file).finally(() => file.close());
  } catch {
    return undefined;
  }
}

function findProgram({ path, format }: StorageDaemonOptions): string {
  const program = findTool(PROGRAM);
  if (program) return program;
  const advice = 'Debian: apt-get install qemu-system-common (or qemu-utils)';
  const message = `${path}: format ${format} needs ${PROGRAM}, which is not there or not executable; ${advice}`;
  throw new BlockdError('ERR_TOOL', 'open image', message, { path });
}
