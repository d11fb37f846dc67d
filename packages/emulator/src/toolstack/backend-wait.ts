import { parseState, XenbusState } from '@xenpv/xenbus';
import type { XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import { ToolstackError } from '../errors.js';

/** How long xl waits for a backend, in either direction (LIBXL_INIT_TIMEOUT, LIBXL_DESTROY_TIMEOUT). */
export const XL_TIMEOUT_MS = 10_000;

/** For whom a wait is, and how it ends early. */
export interface WaitOptions {
  /** The toolstack's operation. */
  readonly op: string;
  readonly signal?: AbortSignal | undefined;
}

/** Waits for what backends do, each time no longer than xl would. Error: {@link ToolstackError} ERR_TIMEOUT. */
export class BackendWait {
  readonly #store: XenstoreClient;
  readonly #timeoutMs: number;

  constructor(store: XenstoreClient, timeoutMs: number) {
    this.#store = store;
    this.#timeoutMs = timeoutMs;
  }

  /** The backend is in InitWait: it has looked at its device, and the hotplug script may run. */
  async ready(backend: string, options: WaitOptions): Promise<void> {
    const path = `${backend}/state`;
    const late = this.#late(options.op, 'the backend did not become ready (state 2)', path);
    await this.#until(late, options.signal, async (ops) => (await stateAt(ops, path)) === XenbusState.initWait);
  }

  /** The backend is in Closed, or its directory is gone. */
  async closed(backend: string, options: WaitOptions): Promise<void> {
    const path = `${backend}/state`;
    const late = this.#late(options.op, 'the backend did not close', path);
    await this.#until(late, options.signal, async (ops) => {
      const state = await stateAt(ops, path);
      return state === undefined || state === XenbusState.closed;
    });
  }

  /** The directory is gone: a driver domain removes its own (`xl devd` does). */
  async removed(backend: string, options: WaitOptions): Promise<void> {
    const late = this.#late(options.op, 'the driver domain did not remove its directory', backend);
    await this.#until(late, options.signal, async (ops) => !(await ops.exists(backend)));
  }

  #late(op: string, problem: string, path: string): ToolstackError {
    return new ToolstackError('ERR_TIMEOUT', op, `${problem} within ${this.#timeoutMs / 1000} s`, { path });
  }

  async #until(
    late: ToolstackError,
    signal: AbortSignal | undefined,
    holds: (ops: XenstoreOperations) => Promise<boolean>,
  ): Promise<void> {
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(late), this.#timeoutMs);
    const signals = signal === undefined ? [deadline.signal] : [deadline.signal, signal];
    try {
      const look = async (ops: XenstoreOperations) => ((await holds(ops)) ? true : undefined);
      await this.#store.waitFor(look, { signal: AbortSignal.any(signals) });
    } catch (error) {
      throw deadline.signal.aborted ? late : error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The state at `path`, or undefined if there is no such node. */
async function stateAt(ops: XenstoreOperations, path: string): Promise<XenbusState | undefined> {
  const text = await ops.tryRead(path);
  return text === undefined ? undefined : parseState(text);
}
