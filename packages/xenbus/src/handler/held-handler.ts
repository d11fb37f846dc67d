import { XenbusError } from '../errors.js';
import { LATE, withinDeadlineOnceAborted } from '../waiting/deadline.js';
import type { BackendHandler, KeyTexts, XenstoreValues } from './handler.js';

/** What a call that was interrupted rejects with, whatever the handler threw. */
export const INTERRUPTED = new XenbusError('ERR_INTERRUPTED', 'interrupt', 'the call is not wanted any more');

export interface HeldHandlerOptions {
  /** The device's, for messages. */
  readonly name: string;
  /** How long a call may take after it was interrupted, in milliseconds. */
  readonly abortTimeoutMs: number;
}

/** A handler with what its mistakes are contained by: what it throws, and what does not end. */
export class HeldHandler<H extends BackendHandler = BackendHandler> {
  readonly #handler: H;
  readonly #options: HeldHandlerOptions;
  #calling: AbortController | undefined;
  /** The values that it was told of last, or undefined before the first time. */
  #told: KeyTexts | undefined;
  #disconnectFailed = false;
  #leftBehind = false;
  #leave = false;

  constructor(handler: H, options: HeldHandlerOptions) {
    this.#handler = handler;
    this.#options = options;
  }

  get handler(): H {
    return this.#handler;
  }

  /** A call of it did not end: it must not be called any more. */
  get leftBehind(): boolean {
    return this.#leftBehind;
  }

  /** Which keys it must know: undefined for all, none if it wants to know nothing. */
  get keys(): readonly string[] | undefined {
    return this.#handler.changed === undefined ? [] : this.#handler.keys;
  }

  async prepare({ offered }: { offered: boolean }): Promise<XenstoreValues> {
    const keys = await this.#orLeaveBehind('prepare', async (signal) => this.#handler.prepare({ offered, signal }));
    return keys || {};
  }

  offer(): XenstoreValues {
    return this.#leftBehind ? {} : (this.#handler.offer?.() ?? {});
  }

  async connect({ adopt }: { adopt: boolean }): Promise<XenstoreValues> {
    const keys = await this.#orLeaveBehind('connect', async (signal) => this.#handler.connect({ adopt, signal }));
    return keys || {};
  }

  /** Whether these are the values that it was told of last. */
  knows(values: KeyTexts): boolean {
    return this.#handler.changed === undefined || isSame(values, this.#told);
  }

  async tell(values: KeyTexts): Promise<void> {
    await this.#call((signal) => this.#handler.changed?.(values, { signal }));
    this.#told = values;
  }

  /** It failed to make use of these values, and would again. */
  skip(values: KeyTexts): void {
    this.#told = values;
  }

  /** Aborts the signal of the call in hand. With `leave` because this process stops. */
  interrupt({ leave }: { leave: boolean }): void {
    this.#leave ||= leave;
    this.#calling?.abort(INTERRUPTED);
  }

  /** Resolves with what it threw, or nothing. */
  async disconnect(how: { readonly leave: boolean }): Promise<readonly unknown[]> {
    if (this.#leftBehind) return [];
    const errors = await errorsOf(() => this.#handler.disconnect(how));
    const known = this.#disconnectFailed;
    this.#disconnectFailed = errors.length > 0;
    return known ? [] : errors;
  }

  /** Disconnects and closes it, whatever it throws; resolves with that. */
  async release(how: { leave: boolean }): Promise<readonly unknown[]> {
    if (this.#leftBehind) return [];
    const errors = await this.disconnect(how);
    return [...errors, ...(await errorsOf(() => this.#handler.close(how)))];
  }

  /** A call that holds nothing of the frontend yet: when it does not end, the device goes on without it. */
  async #orLeaveBehind<T>(op: 'prepare' | 'connect', fn: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { name, abortTimeoutMs } = this.#options;
    let work: Promise<T> | undefined;
    const result = await this.#call((signal) => {
      work = fn(signal);
      return withinDeadlineOnceAborted(work, signal, abortTimeoutMs);
    });
    if (result !== LATE) return result;
    this.#leftBehind = true;
    void work?.catch(() => {}).then(() => this.#releaseLate());
    const text = `${op} of ${name} did not end within ${abortTimeoutMs} ms after it was aborted; it is left behind`;
    throw new XenbusError('ETIMEDOUT', op, text);
  }

  async #releaseLate(): Promise<void> {
    const how = { leave: this.#leave };
    await errorsOf(() => this.#handler.disconnect(how));
    await errorsOf(() => this.#handler.close(how));
  }

  async #call<T>(fn: (signal: AbortSignal) => Promise<T> | T): Promise<T> {
    const calling = new AbortController();
    this.#calling = calling;
    try {
      return await fn(calling.signal);
    } catch (error) {
      throw calling.signal.aborted ? INTERRUPTED : error;
    } finally {
      this.#calling = undefined;
    }
  }
}

async function errorsOf(fn: () => Promise<void>): Promise<unknown[]> {
  try {
    await fn();
    return [];
  } catch (error) {
    return [error];
  }
}

function isSame(values: KeyTexts, told: KeyTexts | undefined): boolean {
  if (told === undefined) return false;
  const keys = Object.keys(values);
  return keys.length === Object.keys(told).length && keys.every((key) => values[key] === told[key]);
}
