import {
  DOMID_SELF,
  type Domid,
  Errno,
  type EventChannels,
  type EventListener,
  type EvtchnPort,
  XenSysError,
} from '@xenpv/xen-sys';
import type { Doorbell } from '../machine/doorbell.js';
import type { Machine, MachineDomain } from '../machine/machine.js';
import { PortState } from '../machine/ports.js';
import { closed } from './closed.js';

/** Ports delivered at once, as many as a read of /dev/xen/evtchn gives. */
const BATCH = 1024;

/**
 * One handle on an emulated domain's event channels, on one thread. Every operation works from any thread, but on a
 * handle of its own.
 */
export class EmulatedEventChannels implements EventChannels {
  readonly fd = -1;
  readonly #machine: Machine;
  readonly #domain: MachineDomain;
  readonly #handle: number;
  readonly #doorbell: Doorbell;
  /** A bit for each port that is bound here, and the range of words that have any. */
  readonly #mine: Int32Array;
  #firstWord: number;
  #lastWord = -1;
  /** Which word to look at first, so that no port starves another. */
  #turn = 0;
  readonly #ports: Uint32Array;
  #listener: EventListener | undefined;
  #peer: MachineDomain | undefined;
  #closed = false;

  /** Errors: ENOSPC all of the domain's handles are open. */
  constructor(machine: Machine, domain: MachineDomain) {
    this.#machine = machine;
    this.#domain = domain;
    this.#handle = machine.openHandle(domain);
    if (this.#handle < 0) throw new XenSysError('ENOSPC', 'evtchn.open', 'too many event-channel handles are open');
    this.#doorbell = domain.ports.doorbell(this.#handle);
    this.#mine = new Int32Array(domain.memory.size.ports / 32);
    this.#firstWord = this.#mine.length;
    this.#ports = new Uint32Array(Math.min(domain.memory.size.ports, BATCH));
  }

  bindInterdomain(domid: Domid, remotePort: EvtchnPort): EvtchnPort {
    const op = 'evtchn.bindInterdomain';
    this.#checkOpen(op);
    const remote = this.#findDomain(domid, op);
    const port = this.#machine.bindInterdomain(this.#domain, this.#handle, remote, remotePort);
    if (port === Errno.EINVAL)
      throw new XenSysError('EINVAL', op, `port ${remotePort} of domain ${domid} is not open to us`);
    this.#claim(port, op);
    this.#domain.ports.raise(port);
    return port;
  }

  bindUnbound(domid: Domid): EvtchnPort {
    const op = 'evtchn.bindUnbound';
    this.#checkOpen(op);
    const remote = this.#findDomain(domid, op);
    const port = this.#machine.bindUnbound(this.#domain, this.#handle, remote);
    this.#claim(port, op);
    return port;
  }

  unbind(port: EvtchnPort): void {
    this.#checkOpen('evtchn.unbind');
    if (!this.#isMine(port)) throw new XenSysError('EINVAL', 'evtchn.unbind', `port ${port} is not bound here`);
    this.#release(port);
  }

  notify(port: EvtchnPort): number {
    if (!this.#isMine(port)) return Errno.EINVAL;
    const { memory, ports } = this.#domain;
    const state = ports.state(port);
    if (state !== PortState.interdomain) return state === PortState.free ? Errno.EINVAL : 0;
    const remotePort = ports.remotePort(port);
    const peer = this.#peerOf(ports.remoteDomid(port));
    if (peer?.ports.isPeerOf(remotePort, memory.domid, port)) peer.ports.raise(remotePort);
    return 0;
  }

  pending(ports: Uint32Array): number {
    if (this.#closed) return Errno.EINVAL;
    const first = this.#firstWord;
    const words = this.#lastWord - first + 1;
    let count = 0;
    for (let i = 0; i < words && count < ports.length; i++) {
      const word = first + ((this.#turn + i) % words);
      const fired = this.#domain.ports.fired(word, this.#mine[word]);
      if (fired !== 0) count = this.#deliver(word, fired, ports, count);
    }
    this.#turn = words > 0 ? (this.#turn + 1) % words : 0;
    return count;
  }

  unmask(ports: Uint32Array, count: number): number {
    for (let i = 0; i < count; i++) if (!this.#isMine(ports[i])) return Errno.EINVAL;
    let fire = false;
    for (let i = 0; i < count; i++) fire = this.#domain.ports.unmask(ports[i]) || fire;
    if (fire && this.#listener !== undefined) this.#doorbell.again();
    return 0;
  }

  /** A listener whose domain is destroyed hears nothing more and keeps nothing alive. */
  listen(listener: EventListener | undefined): void {
    if (this.#closed) {
      if (listener === undefined) return;
      throw closed('evtchn.listen');
    }
    this.#listener = listener;
    if (listener === undefined) this.#doorbell.stop();
    else this.#doorbell.listen(this.#dispatch);
  }

  /**
   * Blocks this thread until a port has fired or for `timeoutMs`; true when one has, which {@link pending} then gives.
   * Only the emulator has this; it is for worker threads that have nothing else to do.
   */
  wait(timeoutMs: number): boolean {
    this.#checkOpen('evtchn.wait');
    return this.#doorbell.wait(this.#anyFired, timeoutMs);
  }

  ref(): void {
    this.#doorbell.ref();
  }

  /** Lets the process end in spite of a started delivery. */
  unref(): void {
    this.#doorbell.unref();
  }

  close(): void {
    if (this.#closed) return;
    this.listen(undefined);
    for (let port = this.#firstWord * 32; port < (this.#lastWord + 1) * 32; port++) {
      if (this.#isMine(port)) this.#release(port);
    }
    this.#closed = true;
    this.#doorbell.close();
    this.#machine.closeHandle(this.#domain, this.#handle);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  readonly #dispatch = (): void => {
    const count = this.pending(this.#ports);
    if (count === this.#ports.length) this.#doorbell.again();
    if (count > 0) this.#listener?.(this.#ports, count);
    if (!this.#domain.memory.alive) this.#doorbell.stop();
  };

  readonly #anyFired = (): boolean => {
    for (let word = this.#firstWord; word <= this.#lastWord; word++) {
      if (this.#domain.ports.fired(word, this.#mine[word]) !== 0) return true;
    }
    return !this.#domain.memory.alive;
  };

  /** Delivers as many of the ports in `fired` as there is room for. */
  #deliver(word: number, fired: number, ports: Uint32Array, count: number): number {
    let taken = 0;
    for (let left = fired; left !== 0 && count < ports.length; left &= left - 1) {
      const bit = left & -left;
      taken |= bit;
      ports[count++] = word * 32 + (31 - Math.clz32(bit));
    }
    this.#domain.ports.take(word, taken);
    return count;
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw closed(op);
    if (!this.#domain.memory.alive) throw new XenSysError('ESRCH', op, 'this domain was destroyed');
  }

  #findDomain(domid: number, op: string): MachineDomain {
    const domain = domid === DOMID_SELF ? this.#domain : this.#machine.find(domid);
    if (domain === undefined) throw new XenSysError('ESRCH', op, `there is no domain ${domid}`);
    return domain;
  }

  #peerOf(domid: number): MachineDomain | undefined {
    if (this.#peer?.memory.domid !== domid || !this.#peer.memory.alive) this.#peer = this.#machine.find(domid);
    return this.#peer;
  }

  #claim(port: number, op: string): void {
    if (port < 0) throw new XenSysError('ENOSPC', op, 'out of event-channel ports');
    const word = port >>> 5;
    this.#mine[word] |= 1 << (port & 31);
    this.#firstWord = Math.min(this.#firstWord, word);
    this.#lastWord = Math.max(this.#lastWord, word);
  }

  #release(port: number): void {
    this.#mine[port >>> 5] &= ~(1 << (port & 31));
    if (this.#domain.memory.alive) this.#machine.closePort(this.#domain, port);
  }

  #isMine(port: number): boolean {
    return (this.#mine[port >>> 5] & (1 << (port & 31))) !== 0;
  }
}
