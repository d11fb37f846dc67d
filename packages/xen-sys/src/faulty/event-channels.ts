import { constants } from 'node:os';
import { Errno } from '../errno.js';
import type { EventChannels, EventListener, EventSleeper } from '../event-channels.js';
import type { Faults } from './faults.js';

/** Event channels whose binding may fail, and whose events may get lost, come late or twice. */
export class FaultyEventChannels implements EventChannels {
  readonly openSleeper?: () => EventSleeper;
  readonly #inner: EventChannels;
  readonly #faults: Faults;
  readonly #held: number[] = [];
  readonly #onClose: (closed: FaultyEventChannels) => void;
  #closed = false;

  constructor(inner: EventChannels, faults: Faults, onClose: (closed: FaultyEventChannels) => void) {
    this.#inner = inner;
    this.#faults = faults;
    this.#onClose = onClose;
    const { openSleeper } = inner;
    if (openSleeper !== undefined) this.openSleeper = () => openSleeper.call(inner);
  }

  get fd(): number {
    return this.#inner.fd;
  }

  bindInterdomain(domid: number, remotePort: number): number {
    this.#faults.check('bindInterdomain', 'evtchn.bindInterdomain', { domid, remotePort });
    return this.#inner.bindInterdomain(domid, remotePort);
  }

  bindUnbound(domid: number): number {
    this.#faults.check('bindUnbound', 'evtchn.bindUnbound', { domid });
    return this.#inner.bindUnbound(domid);
  }

  unbind(port: number): void {
    this.#inner.unbind(port);
  }

  notify(port: number): number {
    const fault = this.#faults.next('notify', { port });
    if (fault === undefined) return this.#inner.notify(port);
    if ('error' in fault) return -constants.errno[fault.error];
    if (this.#closed) return Errno.EINVAL;
    if ('delayMs' in fault) setTimeout(() => this.#send(port), fault.delayMs);
    else if (fault.event === 'held') this.#held.push(port);
    else if (fault.event === 'doubled') {
      setImmediate(() => this.#send(port));
      return this.#inner.notify(port);
    }
    return 0;
  }

  /** Sends the events that were held; returns how many. */
  release(): number {
    const ports = this.#held.splice(0);
    for (const port of ports) this.#send(port);
    return ports.length;
  }

  pending(ports: Uint32Array): number {
    return this.#inner.pending(ports);
  }

  unmask(ports: Uint32Array, count: number): number {
    return this.#inner.unmask(ports, count);
  }

  listen(listener: EventListener | undefined): void {
    this.#inner.listen(listener);
  }

  ref(): void {
    this.#inner.ref();
  }

  unref(): void {
    this.#inner.unref();
  }

  close(): void {
    this.#closed = true;
    this.#held.length = 0;
    this.#inner.close();
    this.#onClose(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Later: the port, or all, may be gone. */
  #send(port: number): void {
    if (!this.#closed) this.#inner.notify(port);
  }
}
