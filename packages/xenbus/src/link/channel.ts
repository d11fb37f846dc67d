import type { EvtchnPort } from '@xenpv/xen-sys';
/** One end of an event channel, for its owner. */
export interface LinkChannel {
  /** The local port: a frontend writes it for its backend. */
  readonly port: EvtchnPort;
  /** Sends an event to the other end. Whether the port is still bound; once it is not, nothing happens. */
  notify(): boolean;
}

/** What a channel tells its owner. */
export interface ChannelCalls {
  /** An event came. While a promise that it gives is pending, no other event is told. */
  readonly onEvent: () => void | Promise<void>;
  /** {@link onEvent} threw, or its promise rejected. The channel is shut. */
  readonly onError: (error: unknown) => void;
}

/** What a channel does to its port. */
interface PortCalls {
  readonly notify: () => boolean;
  readonly unmask: () => void;
}

/**
 * One bound event channel. It begins closed: an event that comes before {@link open} is kept, and told then. A port
 * whose event is kept, or whose listener is at work, stays masked, so that a busy peer costs nothing.
 */
export class Channel implements LinkChannel {
  readonly port: EvtchnPort;
  readonly #calls: ChannelCalls;
  readonly #port: PortCalls;
  #life: 'closed' | 'open' | 'shut' = 'closed';
  #isKept = false;
  #working: Promise<void> | undefined;

  constructor(port: EvtchnPort, calls: ChannelCalls, portCalls: PortCalls) {
    this.port = port;
    this.#calls = calls;
    this.#port = portCalls;
  }

  notify(): boolean {
    return this.#port.notify();
  }

  /** Events are told from now on. */
  open(): void {
    if (this.#life !== 'closed') return;
    this.#life = 'open';
    if (!this.#isKept) return;
    this.#isKept = false;
    if (this.#tell()) this.#port.unmask();
  }

  /** No event is told any more. */
  shut(): void {
    this.#life = 'shut';
  }

  /** Resolves when the listener that was at work has ended. Never rejects. */
  async quiet(): Promise<void> {
    await this.#working;
  }

  /** The port fired. Whether it is to be unmasked now. */
  fire(): boolean {
    if (this.#life === 'closed') this.#isKept = true;
    return this.#life === 'open' && this.#tell();
  }

  #tell(): boolean {
    try {
      const answer = this.#calls.onEvent();
      if (answer === undefined || !('then' in Object(answer))) return true;
      this.#working = this.#follow(answer);
    } catch (error) {
      this.#failed(error);
    }
    return false;
  }

  async #follow(work: Promise<void>): Promise<void> {
    try {
      await work;
      if (this.#life === 'open') this.#port.unmask();
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#working = undefined;
    }
  }

  #failed(error: unknown): void {
    this.shut();
    this.#calls.onError(error);
  }
}
