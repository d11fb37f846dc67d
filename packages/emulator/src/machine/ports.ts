/**
 * The event channels of a domain, as its threads share them. In come port numbers of this domain; the handles check that
 * a port is theirs. What a port is bound to changes only with the machine's lock held; events are atomic operations on two
 * bits. A sender sets pending before it looks at the mask, a receiver clears the mask before it looks at pending: one of
 * the two always sees the other, so no wake-up is lost. A pending port never rings twice, a masked one never rings.
 */
import type { Doorbell } from './doorbell.js';
import { type DomainMemory, HANDLE_WORDS, PORT_WORDS } from './memory.js';

/** What a port is (ECS_* of Xen's sched.h). */
export const PortState = { free: 0, unbound: 1, interdomain: 2 } as const;

const REMOTE_DOMID = 1;
const REMOTE_PORT = 2;
const HANDLE = 3;

/** The ports of a domain, with a pending and a masked bit each, and the handles that its threads have open. */
export class Ports {
  readonly memory: DomainMemory;
  readonly #doorbells: (Doorbell | undefined)[] = [];

  constructor(memory: DomainMemory) {
    this.memory = memory;
  }

  /** Claims a handle for its opener; -1 if all are taken. */
  openHandle(): number {
    const { control, size } = this.memory;
    for (let handle = 0; handle < size.handles; handle++) {
      if (Atomics.compareExchange(control, this.#handleAt(handle), 0, 1) === 0) return handle;
    }
    return -1;
  }

  closeHandle(handle: number): void {
    this.doorbell(handle).close();
    Atomics.store(this.memory.control, this.#handleAt(handle), 0);
  }

  /** Whether `handle` is open. */
  isOpen(handle: number): boolean {
    return Atomics.load(this.memory.control, this.#handleAt(handle)) === 1;
  }

  /** The domain has ended: nothing rings there any more. */
  letGo(): void {
    for (const doorbell of this.#doorbells) doorbell?.letGo();
  }

  openHandles(): number {
    let open = 0;
    for (let handle = 0; handle < this.memory.size.handles; handle++) {
      open += Atomics.load(this.memory.control, this.#handleAt(handle));
    }
    return open;
  }

  /** This thread's view of the doorbell of `handle`. */
  doorbell(handle: number): Doorbell {
    return (this.#doorbells[handle] ??= this.memory.doorbell(handle));
  }

  /** Takes a free port for `handle`; -1 if there is none. The machine's lock must be held. */
  allocate(handle: number, remoteDomid: number): number {
    const { control, size } = this.memory;
    for (let port = 1; port < size.ports; port++) {
      const at = this.#at(port);
      if (control[at] !== PortState.free) continue;
      this.#clearBits(port);
      control[at + REMOTE_DOMID] = remoteDomid;
      control[at + REMOTE_PORT] = 0;
      control[at + HANDLE] = handle;
      Atomics.store(control, at, PortState.unbound);
      return port;
    }
    return -1;
  }

  /** Makes `port` one end of a channel. The machine's lock must be held. */
  connect(port: number, remoteDomid: number, remotePort: number): void {
    const { control } = this.memory;
    const at = this.#at(port);
    control[at + REMOTE_DOMID] = remoteDomid;
    control[at + REMOTE_PORT] = remotePort;
    Atomics.store(control, at, PortState.interdomain);
  }

  /** Makes `port` wait for the same domain again, its peer having gone. The machine's lock must be held. */
  disconnect(port: number): void {
    Atomics.store(this.memory.control, this.#at(port), PortState.unbound);
  }

  /** The ports of `handle`. */
  *ofHandle(handle: number): Iterable<number> {
    for (let port = 1; port < this.memory.size.ports; port++) {
      if (this.state(port) !== PortState.free && this.memory.control[this.#at(port) + HANDLE] === handle) yield port;
    }
  }

  /** Frees `port`. The machine's lock must be held. */
  free(port: number): void {
    Atomics.store(this.memory.control, this.#at(port), PortState.free);
    this.#clearBits(port);
  }

  state(port: number): number {
    return Atomics.load(this.memory.control, this.#at(port));
  }

  remoteDomid(port: number): number {
    return this.memory.control[this.#at(port) + REMOTE_DOMID];
  }

  remotePort(port: number): number {
    return this.memory.control[this.#at(port) + REMOTE_PORT];
  }

  /** Whether `port` exists and waits for `domid` to bind it. */
  isOpenTo(port: number, domid: number): boolean {
    return this.#exists(port) && this.state(port) === PortState.unbound && this.remoteDomid(port) === domid;
  }

  /** Whether `port` is the other end of port `remotePort` of `remoteDomid`. */
  isPeerOf(port: number, remoteDomid: number, remotePort: number): boolean {
    return (
      this.#exists(port) &&
      this.state(port) === PortState.interdomain &&
      this.remotePort(port) === remotePort &&
      this.remoteDomid(port) === remoteDomid
    );
  }

  /** Makes `port` pending and wakes its handle, unless it is pending already or masked. */
  raise(port: number): void {
    const { control, at } = this.memory;
    const bit = 1 << (port & 31);
    if ((Atomics.or(control, at.pending + (port >>> 5), bit) & bit) !== 0) return;
    if ((Atomics.load(control, at.masked + (port >>> 5)) & bit) !== 0) return;
    this.doorbell(control[this.#at(port) + HANDLE]).ring();
  }

  /** Of the 32 ports of `word`, those that `mine` has set, are pending and not masked. */
  fired(word: number, mine: number): number {
    const { control, at } = this.memory;
    const pending = Atomics.load(control, at.pending + word) & mine;
    return pending === 0 ? 0 : pending & ~Atomics.load(control, at.masked + word);
  }

  /** Masks the ports and takes their pending state: events from now on wait for {@link unmask}. */
  take(word: number, bits: number): void {
    const { control, at } = this.memory;
    Atomics.or(control, at.masked + word, bits);
    Atomics.and(control, at.pending + word, ~bits);
  }

  /** Unmasks `port`; true if it is pending, so that nobody else will wake its handle. */
  unmask(port: number): boolean {
    const { control, at } = this.memory;
    const bit = 1 << (port & 31);
    Atomics.and(control, at.masked + (port >>> 5), ~bit);
    return (Atomics.load(control, at.pending + (port >>> 5)) & bit) !== 0;
  }

  /** Ports that are not free. */
  used(): number {
    let used = 0;
    for (let port = 1; port < this.memory.size.ports; port++) if (this.state(port) !== PortState.free) used++;
    return used;
  }

  #exists(port: number): boolean {
    return port > 0 && port < this.memory.size.ports;
  }

  #at(port: number): number {
    return this.memory.at.ports + port * PORT_WORDS;
  }

  #handleAt(handle: number): number {
    return this.memory.at.handles + handle * HANDLE_WORDS;
  }

  #clearBits(port: number): void {
    const { control, at } = this.memory;
    const keep = ~(1 << (port & 31));
    Atomics.and(control, at.pending + (port >>> 5), keep);
    Atomics.and(control, at.masked + (port >>> 5), keep);
  }
}
