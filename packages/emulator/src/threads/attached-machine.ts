import { randomUUID } from 'node:crypto';
import { BroadcastChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { XenSysError, type XenstoreTransport } from '@xenpv/xen-sys';
import { Machine, type MachineDomain } from '../machine/machine.js';
import { machines } from '../machine/machine-registry.js';
import type { DomainSnapshot } from '../machine/memory.js';
import type { Announcement, SharedMachine } from './announcements.js';
import { MessagePipe } from './message-pipe.js';
import { PipeTransport } from './xenstore-pipe.js';

/** How long the host's thread may take to answer. */
const WELCOME_TIMEOUT_MS = 10_000;

/** The machine as a thread sees it that is not the host's. */
class AttachedMachine extends Machine {
  readonly name: string;
  readonly #channel: BroadcastChannel;

  private constructor(
    name: string,
    lock: SharedArrayBuffer,
    domains: readonly DomainSnapshot[],
    channel: BroadcastChannel,
  ) {
    super(lock);
    this.name = name;
    this.#channel = channel;
    for (const domain of domains) this.add(domain);
    channel.onmessage = (event) => this.#hear((event as { data: Announcement }).data);
    channel.unref();
  }

  /** Errors: ERR_NO_DEVICE when the host does not answer. The answer holds all that was told before it. */
  static attach(name: string): Promise<AttachedMachine> {
    const channel = new BroadcastChannel(name);
    const id = randomUUID();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        channel.close();
        reject(new XenSysError('ERR_NO_DEVICE', 'attach', `the emulated machine ${name} does not answer`));
      }, WELCOME_TIMEOUT_MS);
      channel.onmessage = (event) => {
        const message = (event as { data: Announcement }).data;
        if (message.kind !== 'welcome' || message.to !== id) return;
        clearTimeout(timer);
        resolve(new AttachedMachine(name, message.lock, message.domains, channel));
      };
      post(channel, { kind: 'hello', from: id });
    });
  }

  /** A domain that this thread was told of and did not look yet is found too: the message is here already. */
  override find(domid: number): MachineDomain | undefined {
    const known = super.find(domid);
    if (known !== undefined) return known;
    this.#catchUp();
    return super.find(domid);
  }

  override async connectXenstore(domid: number): Promise<XenstoreTransport> {
    const memory = MessagePipe.memory();
    post(this.#channel, { kind: 'xenstore', domid, memory });
    return new PipeTransport(memory, `emulator:dom${domid}`);
  }

  override shared(domid: number): SharedMachine {
    return { machine: this.name, domid, oneThread: this.oneThread };
  }

  #catchUp(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#channel as unknown as MessagePort);
      if (received === undefined) return;
      this.#hear((received as { message: Announcement }).message);
    }
  }

  #hear(message: Announcement): void {
    if (message.kind === 'created') this.add(message.domain);
    else if (message.kind === 'destroyed') this.forget(message.domid);
  }
}

const attaching = new Map<string, Promise<Machine>>();

/** The machine of this name as this thread sees it; one attachment a thread. Errors: ERR_NO_DEVICE, EOPNOTSUPP. */
export async function machineNamed({ machine: name, oneThread }: SharedMachine): Promise<Machine> {
  const known = machines.get(name);
  if (known !== undefined) return known;
  if (oneThread)
    throw new XenSysError('EOPNOTSUPP', 'attach', 'a host with a seed has one thread; make it without a seed');
  let promise = attaching.get(name);
  if (promise === undefined) {
    promise = AttachedMachine.attach(name).finally(() => attaching.delete(name));
    attaching.set(name, promise);
  }
  const machine = await promise;
  machines.set(name, machine);
  return machine;
}

function post(channel: BroadcastChannel, message: Announcement): void {
  channel.postMessage(message);
}
