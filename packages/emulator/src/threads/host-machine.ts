import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { LazyMemory } from '../machine/lazy-memory.js';
import { Machine, type MachineDomain, type OwnMachine } from '../machine/machine.js';
import { machines } from '../machine/machine-registry.js';
import { DomainMemory, type DomainSize } from '../machine/memory.js';
import type { Announcement, SharedMachine } from './announcements.js';
import { MessagePipe } from './message-pipe.js';
import { servePipe } from './xenstore-pipe.js';

/** The machine on the thread that made it: creates and destroys domains, and tells the other threads. */
export class HostMachine extends Machine implements OwnMachine {
  readonly name = `xenpv-emulator-${randomUUID()}`;
  readonly #channel: BroadcastChannel;
  readonly #connect: (domid: number) => XenstoreTransport;
  readonly #memory = new LazyMemory();
  #closed = false;

  /** `connect` gives connections to xenstored in this thread. */
  constructor(connect: (domid: number) => XenstoreTransport) {
    super(new SharedArrayBuffer(4));
    this.#connect = connect;
    this.#channel = new BroadcastChannel(this.name);
    this.#channel.onmessage = (event) => this.#hear((event as { data: Announcement }).data);
    this.#channel.unref();
    machines.set(this.name, this);
  }

  create(domid: number, size: DomainSize): MachineDomain {
    const domain = this.add(DomainMemory.create(domid, size, this.#memory));
    this.#post({ kind: 'created', domain: domain.memory.snapshot() });
    return domain;
  }

  destroy(domid: number): void {
    const domain = this.find(domid);
    if (domain === undefined) return;
    this.tearDown(domain);
    this.forget(domid);
    this.#post({ kind: 'destroyed', domid });
  }

  override async connectXenstore(domid: number): Promise<XenstoreTransport> {
    return this.#connect(domid);
  }

  override shared(domid: number): SharedMachine {
    return { machine: this.name, domid, oneThread: this.oneThread };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const domain of this.domains()) this.destroy(domain.memory.domid);
    machines.delete(this.name);
    this.#channel.close();
  }

  #hear(message: Announcement): void {
    if (message.kind === 'xenstore') {
      this.#serve(message.domid, message.memory);
    } else if (message.kind === 'hello') {
      const domains = this.domains().map((domain) => domain.memory.snapshot());
      const lock = this.lockWord.buffer as SharedArrayBuffer;
      this.#post({ kind: 'welcome', to: message.from, lock, domains });
    }
  }

  #serve(domid: number, memory: SharedArrayBuffer): void {
    if (this.find(domid) === undefined) new MessagePipe(memory, 1).close();
    else servePipe(memory, this.#connect(domid));
  }

  #post(message: Announcement): void {
    this.#channel.postMessage(message);
  }
}
