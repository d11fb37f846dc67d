import type { OperationOptions } from '@xenpv/xenstore';
import { ConnectedKeys } from './connected-keys.js';
import { DeviceNodes, type DeviceNodesOptions, STALE } from './device-nodes.js';
import { errorChannel, frontendChannel, onlineChannel } from './diagnostics.js';
import { DeviceErrors } from './error-nodes/device-errors.js';
import { XenbusError } from './errors.js';
import { DevicePace } from './guests/device-pace.js';
import type { GuestAccount } from './guests/guest-account.js';
import { CallGuard } from './handler/call-guard.js';
import type { BackendContext, BackendHandler, XenstoreValues } from './handler/handler.js';
import { HeldHandler, INTERRUPTED } from './handler/held-handler.js';
import { type StillWanted, stillConnects, stillPrepares, stillTells } from './handler/still-wanted.js';
import type { HeldDevice } from './holding/held-device.js';
import { Hold } from './holding/hold.js';
import { Orphan } from './holding/orphan.js';
import { holdings, nextPhase, type Phase, type Transition, type Wish } from './life.js';
import { type DeviceAddress, deviceName } from './paths.js';
import { type DeviceAction, type DeviceView, nextAction } from './reducer.js';
import { XenbusState } from './states.js';
import { Backoff } from './waiting/backoff.js';
import { endedOrAborted, LATE, withinDeadline } from './waiting/deadline.js';
import { LastingWatch } from './waiting/lasting-watch.js';
import type { Turn } from './waiting/takeovers.js';
import { isXenstoreTrouble } from './waiting/xenstore-trouble.js';

/** How often a device that xenstored has lost is looked at, in milliseconds. */
const ORPHAN_MS = 1000;
/** How long Closed waits for a device that is let go of, in milliseconds: half of what libxl waits for Closed. */
const LET_GO_MS = 5000;

/** How the bus makes a backend for a device that the toolstack created. */
export type HandlerFactory<H extends BackendHandler = BackendHandler> = (context: BackendContext) => H;

/** What a device is made of. */
export interface BackendDeviceOptions<H extends BackendHandler = BackendHandler> extends DeviceNodesOptions {
  /** Called before each `prepare`; there is one handler at a time. What it throws is a failed `prepare`. */
  readonly createHandler: HandlerFactory<H>;
  /** Of the guest whose device it is. */
  readonly guest: GuestAccount;
  /** When it is opened, if its frontend was not connected before. */
  readonly turn: Turn;
  /** How long `prepare` and `connect` may take after their signal was aborted, in milliseconds. */
  readonly abortTimeoutMs: number;
  /** How long {@link BackendDevice.stop} waits for the handler, in milliseconds. */
  readonly stopTimeoutMs: number;
  /** In a driver domain libxl expects the backend to delete its own directory. */
  readonly removeDirectory: boolean;
  /** Called once, when the device's directory is gone and everything is released. */
  readonly onGone: (device: BackendDevice<H>) => void;
}

/**
 * One device of the bus: reads its nodes, asks the reducer, does what it says, and again until there is nothing to do.
 *
 * In come pokes, at any time and in any number; what they mean is read from the store. The invariants:
 * - Steps are taken by one chain (`#run`), so that no two of them overlap and the handler is called for one thing at a
 *   time.
 * - A poke only wishes for a look. A change that comes while a step is taken is looked at after that step, one that
 *   comes while the chain ends begins a new chain: none is lost, though many may share one look.
 * - The phase says what is held, and changes only in the chain, by the named transitions of life.ts. There is a handler
 *   in `prepared` and `connected`, perhaps in `failed`, never in the others once their step is done.
 * - What is written is written in a transaction that first verifies that `state` is still what the decision was based
 *   on. If it is not, nothing is written and the device is looked at again. So a directory that the toolstack deleted
 *   is never written again.
 * - The wish to stop and the phase `gone` are final: the step in hand is finished, no other begins.
 * - While a handler prepares or connects, pokes are looked at too: what is not wanted any more is interrupted.
 * - A step that fails is taken again after a pause that grows, whoever pokes. Only a handler's own error is not: it is
 *   the device's, and told in the error node. What a handler throws while it is let go of changes nothing but that.
 * - Where the backend was Connected, by this process or an earlier one, nothing of ours ends that: the device is held,
 *   and tried again. Its directory that is lost with the whole tree does not end it either.
 * - What a guest asks for faster than its pace allows is looked at later. What the toolstack does is looked at at once.
 */
export class BackendDevice<H extends BackendHandler = BackendHandler> {
  /** Where it is below `backend/`. It never changes. */
  readonly address: DeviceAddress;
  /** `vbd-5-51712`, for messages. */
  readonly name: string;
  readonly #options: BackendDeviceOptions<H>;
  readonly #nodes: DeviceNodes;
  readonly #errors: DeviceErrors;
  readonly #keys: ConnectedKeys;
  readonly #guard = new CallGuard(() => this.#nodes.read(this.#followedPath));
  readonly #backoff = new Backoff();
  readonly #hold: Hold;
  readonly #orphan: Orphan;
  readonly #pace: DevicePace;
  /** The end of a handler that is let go of. */
  #lettingGo: Promise<void> | undefined;
  #handler: HeldHandler<H> | undefined;
  /** What the context of the held handler is known by. */
  #token: object | undefined;
  #followedPath: string | undefined;
  #frontendWatch: LastingWatch | undefined;
  /** As it was read last; undefined for a directory that is not there. */
  #seenBackend: XenbusState | undefined;
  /** As told on the channels. */
  #seenFrontend: XenbusState = XenbusState.unknown;
  #seenOnline = false;
  #phase: Phase = 'idle';
  #wish: Wish = 'rest';
  /** What the handler reported, until Closing is written. */
  #failure: { readonly error: unknown; told: boolean } | undefined;
  /** Why the handler cannot serve any more, until that is acted on. */
  #lost: { readonly error: unknown } | undefined;
  /** What prepare gave and xenstored did not take. */
  #unpublished: XenstoreValues = {};
  #pause: NodeJS.Timeout | undefined;
  #orphanTimer: NodeJS.Timeout | undefined;
  #storeIsClosed = false;
  #running: Promise<void> | undefined;

  constructor(options: BackendDeviceOptions<H>) {
    this.#options = options;
    this.address = options.address;
    this.name = deviceName(options.address);
    this.#nodes = new DeviceNodes(options);
    this.#errors = new DeviceErrors({ ...options, again: () => this.poke() });
    this.#keys = new ConnectedKeys(this.#nodes);
    this.#hold = new Hold(options.address, () => this.poke());
    this.#orphan = new Orphan(options);
    this.#pace = new DevicePace(options.guest, () => this.poke());
  }

  /** The backend's directory. */
  get path(): string {
    return this.#nodes.path;
  }

  /** Whether a frontend is served now. */
  get connected(): boolean {
    return this.#phase === 'connected';
  }

  /** The backend's state, as the last look found it: Unknown before the first one, and for a directory that is gone. */
  get state(): XenbusState {
    return this.#seenBackend ?? XenbusState.unknown;
  }

  /** Whether the toolstack wants the device to go on, as the last look found it: false before the first one. */
  get online(): boolean {
    return this.#seenOnline;
  }

  /** The handler that {@link BackendDeviceOptions.createHandler} made, or undefined while there is none. */
  get handler(): H | undefined {
    return this.#handler?.handler;
  }

  /** Why the device is not served though its frontend is connected, or undefined. */
  get held(): HeldDevice | undefined {
    return this.#hold.state;
  }

  /** Since when xenstored does not know the device, which is served on; or undefined. */
  get orphanedSince(): Date | undefined {
    return this.#orphan.since;
  }

  /** Tries a held device again now. */
  retry(): void {
    if (this.held === undefined || this.#wish === 'stop') return;
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#hold.retry();
  }

  /** Something at or below the device's directory changed, or its frontend did. */
  poke(): void {
    this.#lookAgain();
    this.#guard.poke();
    this.#start();
  }

  /**
   * Resolves when the steps in hand are taken: the device is served, held, waits for its frontend, or is tried again
   * later; or when `signal` is aborted, since a handler that hangs would keep it from that. Never rejects.
   */
  async settled({ signal }: OperationOptions = {}): Promise<void> {
    const steps = this.#running ?? Promise.resolve();
    await (signal === undefined ? steps : endedOrAborted(steps, signal));
  }

  /** Stops serving and releases everything, leaving the store as it is, so that the next process can adopt it. */
  async stop(): Promise<void> {
    const { stopTimeoutMs } = this.#options;
    this.#wish = 'stop';
    this.#clearTimers();
    void this.#frontendWatch?.close();
    this.#handler?.interrupt({ leave: true });
    if ((await withinDeadline(this.#end(), stopTimeoutMs)) !== LATE) return;
    const text = `${this.name} did not stop within ${stopTimeoutMs} ms; it is left behind`;
    errorChannel.publish({ address: this.address, error: new XenbusError('ETIMEDOUT', 'stop', text) });
  }

  /** The client is closed for good: nothing is looked at any more, and what is served goes on. */
  storeClosed(): void {
    this.#storeIsClosed = true;
    this.#clearTimers();
    void this.#frontendWatch?.close();
  }

  #clearTimers(): void {
    clearTimeout(this.#pause);
    clearTimeout(this.#orphanTimer);
    this.#hold[Symbol.dispose]();
    this.#pace[Symbol.dispose]();
    this.#errors[Symbol.dispose]();
  }

  async #end(): Promise<void> {
    await this.#running;
    await this.#release({ leave: true });
  }

  #start(): void {
    if (this.#pause !== undefined) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#wantsLook()) this.#start();
    });
  }

  async #run(): Promise<void> {
    await this.#options.turn.begin();
    while (this.#wantsLook()) {
      this.#wish = 'rest';
      try {
        await this.#step();
      } catch (error) {
        if (error === STALE) this.#lookAgain();
        else await this.#stepFailed(error);
      }
    }
  }

  async #stepFailed(error: unknown): Promise<void> {
    if (error !== INTERRUPTED) await this.#errors.report(error);
    if (this.#wish === 'stop' || this.#storeIsClosed || this.#pause !== undefined) return;
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.poke();
    }, this.#backoff.failed());
  }

  #lookAgain(): void {
    if (this.#wish !== 'stop') this.#wish = 'look';
  }

  #wantsLook(): boolean {
    return this.#wish === 'look' && this.#phase !== 'gone' && this.#pause === undefined && !this.#storeIsClosed;
  }

  #enter(transition: Transition): void {
    this.#phase = nextPhase(this.#phase, transition);
  }

  async #step(): Promise<void> {
    const view = await this.#look();
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost !== undefined && this.#phase === 'connected') return this.#serviceLost(lost.error, view);
    if ((view.connected || view.held) && (await this.#isOrphan(view))) return;
    if (view.backend !== undefined) {
      await this.#errors.tell();
      if (this.#failure !== undefined) return this.#declareFailure(this.#failure, view.backend);
    }
    const action = nextAction(view);
    if (mayTell(action) && (await this.#tellChanges(view))) return;
    if (action.do === 'wait') {
      this.#options.turn.over();
      return this.#rest(view);
    }
    if (await this.#waitedForTakeovers(action, view)) return this.#lookAgain();
    if (!this.#pace.mayTake(action, view)) return;
    await this.#perform(action, view);
    if (isTakeOver(action) && this.#phase === 'connected') this.#lookAfterTakeovers();
    else this.#lookAgain();
  }

  /** It is served: what is left to be read and written must not keep others that were served before waiting. */
  #lookAfterTakeovers(): void {
    const { turn } = this.#options;
    turn.over();
    if (turn.mustWait) void turn.wait().then(() => this.poke());
    else this.#lookAgain();
  }

  /** Whether others that were served before had to be opened first, which takes time: then it is looked again. */
  async #waitedForTakeovers(action: DeviceAction, view: DeviceView): Promise<boolean> {
    const { turn } = this.#options;
    if (view.backend === XenbusState.connected) return false;
    turn.over();
    if (action.do !== 'prepare' || !turn.mustWait) return false;
    await turn.wait();
    return true;
  }

  /** Whether xenstored has lost the device with all else: then it is left as it is, and looked at again. */
  async #isOrphan(view: DeviceView): Promise<boolean> {
    const was = this.#orphan.since !== undefined;
    const is = await this.#orphan.look(view);
    if (was && !is) this.#keys.again();
    clearTimeout(this.#orphanTimer);
    if (is) this.#orphanTimer = setTimeout(() => this.poke(), ORPHAN_MS).unref();
    return is;
  }

  /** Nothing is to be done but what xenstored did not take before. */
  async #rest(view: DeviceView): Promise<void> {
    if (view.held && view.backend === XenbusState.connected && this.#hold.takeDue()) {
      this.#enter('retried');
      return this.#lookAgain();
    }
    if (this.#phase === 'connected') {
      await this.#keys.publishOwed();
      await this.#errors.removeIfOver();
    }
    if (this.#phase === 'idle' && view.online) await this.#expectFrontend();
    this.#backoff.worked();
  }

  /** A device that is found Closed, or whose handler had to go: its frontend may come back. */
  async #expectFrontend(): Promise<void> {
    if (this.#frontendWatch !== undefined) return;
    try {
      await this.#followFrontend();
      this.#lookAgain();
    } catch (error) {
      if (!(error instanceof XenbusError)) throw error;
    }
  }

  async #look(): Promise<DeviceView> {
    const reading = await this.#nodes.read(this.#followedPath);
    this.#errors.directoryIsThere = reading.backend !== undefined;
    this.#seenBackend = reading.backend;
    this.#noticeFrontend(reading.frontend);
    this.#noticeOnline(reading.online);
    const holds = holdings(this.#phase);
    // Where a held device's frontend is could not be read, perhaps: that says nothing about it.
    const isUnseen = holds.held && this.#followedPath === undefined;
    return { ...reading, ...holds, ...(isUnseen ? { frontend: XenbusState.connected } : {}) };
  }

  #noticeFrontend(state: XenbusState): void {
    if (state === this.#seenFrontend) return;
    this.#seenFrontend = state;
    if (frontendChannel.hasSubscribers) frontendChannel.publish({ address: this.address, state });
  }

  #noticeOnline(online: boolean): void {
    if (online === this.#seenOnline) return;
    this.#seenOnline = online;
    if (onlineChannel.hasSubscribers) onlineChannel.publish({ address: this.address, online });
  }

  async #perform(action: Exclude<DeviceAction, { do: 'wait' }>, view: DeviceView): Promise<void> {
    switch (action.do) {
      case 'prepare':
        return this.#prepare(view, action.state);
      case 'connect':
        return this.#connect(view, { adopt: action.adopt });
      case 'disconnect':
        this.#hold.over('ended');
        if (action.state === XenbusState.closed && isOver(view)) await this.#letGo();
        else if (view.held) await this.#releaseHandler({ leave: false });
        else await this.#disconnect({ leave: false });
        return this.#setState(view.backend, action.state);
      case 'setState':
        return this.#setState(view.backend, action.state);
      case 'remove':
        return this.#remove();
      case 'forget':
        return this.#forget();
    }
  }

  async #setState(expected: XenbusState | undefined, next: XenbusState): Promise<void> {
    const values = next === XenbusState.initWait ? this.#handler?.offer() : undefined;
    await this.#nodes.publish(expected, next, values);
  }

  async #prepare(view: DeviceView, next: XenbusState | undefined): Promise<void> {
    const takesOver = next === undefined && view.backend === XenbusState.connected;
    // State Initialising while we hold a device: the toolstack deleted the directory and made it again.
    if (!takesOver) await this.#release({ leave: false });
    try {
      const handler = takesOver ? await this.#anotherHandler() : this.#makeHandler(await this.#followFrontend());
      const values = await this.#whileWanted(stillPrepares(view), () =>
        handler.prepare({ offered: next === undefined }),
      );
      this.#enter('opened');
      if (takesOver) await this.#publishLater(view.backend, values);
      else await this.#nodes.publish(view.backend, next, values);
    } catch (error) {
      if (error === STALE) throw error;
      if (takesOver && this.#canHold(error)) return this.#holdFor(error);
      if (this.#isNoFault(error)) {
        await this.#release({ leave: this.#wish === 'stop' });
        throw error;
      }
      await this.#giveUp(error, view.backend);
      this.#enter('openingFailed');
    }
  }

  /** For a frontend that was served with such keys before: it need not wait for xenstored to take them. */
  async #publishLater(expected: XenbusState | undefined, values: XenstoreValues): Promise<void> {
    this.#unpublished = {};
    if (Object.keys(values).length === 0) return;
    try {
      await this.#nodes.publish(expected, undefined, values);
    } catch (error) {
      if (error === STALE) throw error;
      this.#unpublished = values;
    }
  }

  async #connect(view: DeviceView, { adopt }: { adopt: boolean }): Promise<void> {
    const handler = this.#handler;
    if (handler === undefined) return;
    // Served already: Connected could not be written, or it is not known whether it was.
    if (view.connected) return this.#keys.announce(view.backend);
    const takesOver = view.backend === XenbusState.connected;
    try {
      const values = await this.#whileWanted(stillConnects(view), () => handler.connect({ adopt }));
      this.#keys.begin({ ...this.#unpublished, ...values }, { adopt });
      this.#enter('served');
      this.#hold.over('served');
      this.#errors.over();
      if (adopt) return;
      // Xenstored may be in trouble; then it is done later.
      await this.#errors.removeIfOver().catch(() => {});
      await this.#keys.announce(view.backend);
    } catch (error) {
      // The frontend may have seen Connected, if only the answer was lost; or it was Connected before.
      if (this.#phase === 'connected' && error !== STALE && (takesOver || isXenstoreTrouble(error))) throw error;
      if (takesOver && this.#canHold(error)) return this.#holdFor(error);
      const isFault = error !== STALE && !this.#isNoFault(error);
      await this.#disconnect({ leave: this.#wish === 'stop' });
      if (!isFault) throw error;
      await this.#giveUp(error, view.backend);
    }
  }

  /** Runs a call of the handler, and interrupts it when it is not wanted any more. */
  async #whileWanted<T>(isWanted: StillWanted, call: () => Promise<T>): Promise<T> {
    const interrupt = () => this.#handler?.interrupt({ leave: false });
    const running = this.#guard.run({ isWanted, interrupt }, call);
    if (this.#wish === 'stop') this.#handler?.interrupt({ leave: true });
    else if (this.#wish === 'look') this.#guard.poke();
    return running;
  }

  /** Tells the handler of changed keys. Whether it looked at some, which takes time: then it is looked again. */
  async #tellChanges(view: DeviceView): Promise<boolean> {
    const handler = this.#handler;
    const keys = handler?.keys;
    if (handler === undefined || !view.prepared || keys?.length === 0) return false;
    const values = await this.#nodes.readTexts(keys);
    if (handler.knows(values)) return false;
    try {
      await this.#whileWanted(stillTells(view), () => handler.tell(values));
    } catch (error) {
      if (this.#isNoFault(error)) throw error;
      handler.skip(values);
      await this.#errors.report(error);
    }
    this.#lookAgain();
    return true;
  }

  /** Not what is given up because something changed, which is looked at first. */
  #canHold(error: unknown): boolean {
    return error !== STALE && error !== INTERRUPTED && this.#handler?.leftBehind !== true;
  }

  /** Leaves a frontend that was served as it is, and tries again later. */
  async #holdFor(error: unknown): Promise<void> {
    this.#enter('held');
    this.#keys.end();
    for (const more of (await this.#handler?.disconnect({ leave: true })) ?? []) await this.#errors.report(more);
    if (this.#wish === 'stop' || this.#storeIsClosed) return;
    if (this.#hold.failed(error)) await this.#errors.note(error);
  }

  /** The handler cannot serve any more, through no fault of the frontend. */
  async #serviceLost(error: unknown, view: DeviceView): Promise<void> {
    this.#lookAgain();
    if (view.backend === undefined || view.backend === XenbusState.connected) return this.#holdFor(error);
    // Connected is not written yet, or not any more.
    await this.#disconnect({ leave: false });
    throw error;
  }

  /** The call is not wanted any more, or xenstored is in trouble, or the call did not end. */
  #isNoFault(error: unknown): boolean {
    return error === INTERRUPTED || isXenstoreTrouble(error) || this.#handler?.leftBehind === true;
  }

  /** A handler that cannot let go of a frontend is closed, and another one is made for the next. */
  async #disconnect(how: { leave: boolean }): Promise<void> {
    this.#enter('disconnected');
    this.#keys.end();
    const errors = (await this.#handler?.disconnect(how)) ?? [];
    if (errors.length === 0 && this.#handler?.leftBehind !== true) return;
    for (const error of errors) await this.#errors.report(error);
    await this.#release({ leave: this.#wish === 'stop' });
  }

  /** Tells the toolstack and the operator why, and asks the frontend to close. */
  async #giveUp(error: unknown, expected: XenbusState | undefined): Promise<void> {
    await this.#errors.report(error);
    await this.#nodes.publish(expected, XenbusState.closing);
  }

  async #declareFailure(failure: { readonly error: unknown; told: boolean }, backend: XenbusState): Promise<void> {
    if (!failure.told) await this.#errors.report(failure.error);
    failure.told = true;
    if (backend !== XenbusState.closing && backend !== XenbusState.closed) {
      await this.#nodes.publish(backend, XenbusState.closing);
    }
    this.#failure = undefined;
    this.#lookAgain();
  }

  async #remove(): Promise<void> {
    await this.#release({ leave: false });
    if (this.#options.removeDirectory) await this.#nodes.delete();
    this.#enter('removed');
  }

  async #forget(): Promise<void> {
    await this.#release({ leave: false });
    await this.#errors.remove();
    this.#clearTimers();
    this.#enter('forgotten');
    this.#options.onGone(this);
  }

  /**
   * Before Closed is written of a device that is over. Who reads it may use what is behind the device: a hotplug script,
   * or another guest. What does not let go in time is let go of later.
   */
  async #letGo(): Promise<void> {
    this.#lettingGo = this.#releaseHandler({ leave: false });
    await withinDeadline(this.#lettingGo, LET_GO_MS);
  }

  /** Back to holding nothing. With `leave` the process stops and the frontend waits for the next one. Never rejects. */
  async #release(how: { leave: boolean }): Promise<void> {
    const watch = this.#frontendWatch;
    this.#frontendWatch = undefined;
    this.#followedPath = undefined;
    this.#hold.over(how.leave ? 'left' : 'ended');
    // Without a connection to xenstored the handler is let go of all the same.
    const watchEnded = watch?.close();
    await this.#lettingGo;
    await this.#releaseHandler(how);
    await watchEnded;
  }

  /** The frontend is followed on. Never rejects. */
  async #releaseHandler(how: { leave: boolean }): Promise<void> {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#token = undefined;
    this.#failure = undefined;
    this.#lost = undefined;
    this.#unpublished = {};
    this.#keys.end();
    this.#enter('released');
    for (const error of (await handler?.release(how)) ?? []) await this.#errors.report(error);
  }

  /** Nothing is waited for between the old one and the new one: a device that is held has one for whoever looks. */
  async #anotherHandler(): Promise<HeldHandler<H>> {
    let path: string;
    try {
      path = await this.#followFrontend();
    } finally {
      await this.#releaseHandler({ leave: true });
    }
    return this.#makeHandler(path);
  }

  #makeHandler(frontendPath: string): HeldHandler<H> {
    const token = {};
    this.#token = token;
    const handler = this.#options.createHandler(this.#context(frontendPath, token));
    this.#handler = new HeldHandler(handler, { name: this.name, abortTimeoutMs: this.#options.abortTimeoutMs });
    return this.#handler;
  }

  /** Pokes the device with each state of the frontend. The frontend's directory. */
  async #followFrontend(): Promise<string> {
    const path = await this.#nodes.readFrontendPath();
    if (path === this.#followedPath && this.#frontendWatch !== undefined) return path;
    const before = this.#frontendWatch;
    this.#frontendWatch = undefined;
    this.#followedPath = path;
    await before?.close();
    this.#frontendWatch = await LastingWatch.start({
      store: this.#options.store,
      path: `${path}/state`,
      changed: () => {
        if (this.#pace.mayLook()) this.poke();
      },
      lost: (error) => errorChannel.publish({ address: this.address, error }),
    });
    return path;
  }

  /** For one handler, by its token: a handler that was replaced reaches nothing by it. */
  #context(frontendPath: string, token: object): BackendContext {
    const device = this;
    return {
      get held() {
        return device.held;
      },
      get orphanedSince() {
        return device.orphanedSince;
      },
      address: this.address,
      name: this.name,
      ownDomid: this.#options.ownDomid,
      backendPath: this.#nodes.path,
      frontendPath,
      store: this.#options.store,
      update: async (values) => {
        if (token !== this.#token || this.#phase !== 'connected' || this.#wish === 'stop') return;
        await this.#keys.update(values).catch((error: unknown) => {
          if (!isXenstoreTrouble(error)) throw error;
          return this.#stepFailed(error);
        });
      },
      fail: (error) => {
        if (token !== this.#token) return;
        this.#failure ??= { error, told: false };
        this.poke();
      },
      hold: (error) => {
        if (token !== this.#token) return;
        this.#lost ??= { error };
        this.poke();
      },
      retry: () => {
        if (token === this.#token) this.retry();
      },
      report: (error) => {
        if (token === this.#token) void this.#errors.report(error);
      },
    };
  }
}

/** A frontend that was served before goes on being served. */
function isTakeOver(action: DeviceAction): boolean {
  return action.do === 'connect' && action.adopt;
}

/** Whether changed keys are looked at first. One that is to be taken over has just read them, and its guest waits. */
function mayTell(action: DeviceAction): boolean {
  return action.do === 'wait' || (action.do === 'connect' && !action.adopt);
}

/** Its toolstack ends the device, or has removed the frontend's half, which is how it begins by force. */
function isOver({ online, frontend }: DeviceView): boolean {
  return !online || frontend === XenbusState.unknown;
}
