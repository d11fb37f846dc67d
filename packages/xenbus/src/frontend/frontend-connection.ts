import { errorMessage, XenbusError } from '../errors.js';
import { stateName, XenbusState } from '../states.js';
import type { FrontendLink } from './frontend-link.js';
import type { FrontendHandshake } from './handshake.js';

/** How long closing waits for a backend that does not answer, in milliseconds. */
export const CLOSE_TIMEOUT_MS = 5000;

/** One connection of a frontend, from Connected to its end. It ends once, whoever ends it. */
export class FrontendConnection {
  readonly link: FrontendLink;
  /** Resolves when it is over and everything is taken back: with undefined when this end closed it, else with why. */
  readonly ended: Promise<XenbusError | undefined>;
  readonly #handshake: FrontendHandshake;
  readonly #closeTimeoutMs: number;
  readonly #following = new AbortController();
  #why: XenbusError | undefined;
  #closing: Promise<void> | undefined;
  #settleEnded!: (why: XenbusError | undefined) => void;

  constructor(handshake: FrontendHandshake, link: FrontendLink, closeTimeoutMs: number) {
    this.#handshake = handshake;
    this.link = link;
    this.#closeTimeoutMs = closeTimeoutMs;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
    void this.#follow();
  }

  /** It is not ending. */
  get isOpen(): boolean {
    return this.#closing === undefined;
  }

  /** Something is wrong: it is closed, and {@link ended} tells this. */
  lose(text: string, cause?: unknown): void {
    if (!this.isOpen) return;
    this.#why = new XenbusError('ERR_CLOSED', 'connect', text, { path: this.#handshake.path, cause });
    void this.close();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The backend's Closing, Closed and end are followed. */
  async #follow(): Promise<void> {
    const { signal } = this.#following;
    try {
      const state = await this.#handshake.waitForBackend((now) => (isServing(now) ? undefined : now), { signal });
      const { backendPath } = this.#handshake;
      if (state === XenbusState.unknown) this.lose(`the backend ${backendPath} is gone`);
      else this.lose(`the backend ${backendPath} went to ${stateName(state)}`);
    } catch (error) {
      if (!signal.aborted) this.lose(`the backend cannot be followed: ${errorMessage(error)}`, error);
    }
  }

  async #close(): Promise<void> {
    this.#following.abort();
    // When the backend does not answer or the store is gone, there is nobody left to tell.
    await this.#handshake.close({ signal: AbortSignal.timeout(this.#closeTimeoutMs) }).catch(() => {});
    this.link[Symbol.dispose]();
    this.#settleEnded(this.#why);
  }
}

/** Also while it changes its configuration, which only some kinds of devices do. */
function isServing(backend: XenbusState): boolean {
  const { connected, reconfiguring, reconfigured } = XenbusState;
  return backend === connected || backend === reconfiguring || backend === reconfigured;
}
