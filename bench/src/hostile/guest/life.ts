import { ABIS, type AbiName } from '@xenpv/blkif';
import type { EventChannels, GrantAllocator, XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { Random } from '../../program/random.js';
import { Connection } from './connection.js';
import { GuestPages } from './pages.js';
import type { GuestPlan } from './plan.js';

/** A connection and what it takes: one domain, one attached disk. */
export class Life {
  readonly #provider: XenProvider;
  readonly #plan: GuestPlan;
  readonly #random: Random;
  readonly nonsense: boolean;
  state = 0;
  events!: EventChannels;
  pages!: GuestPages;
  connection!: Connection;
  readonly abi;
  #allocator!: GrantAllocator;
  #store!: XenstoreClient;

  constructor(provider: XenProvider, plan: GuestPlan, random: Random, nonsense: boolean) {
    this.#provider = provider;
    this.#plan = plan;
    this.#random = random;
    this.nonsense = nonsense;
    this.abi = ABIS[plan.abi ?? random.pick<AbiName>(['x86_64', 'x86_32', 'arm'])];
  }

  async open(): Promise<void> {
    const random = this.#random;
    const { domid, device, transfer, maxQueues, victim, patienceSeconds } = this.#plan;
    this.events = this.#provider.openEventChannels();
    this.#allocator = this.#provider.openGrantAllocator();
    this.#store = XenstoreClient.open(await this.#provider.connectXenstore());
    this.pages = new GuestPages(this.#allocator, 0, victim ? 300 : 1000, random);
    this.connection = new Connection({
      store: this.#store,
      events: this.events,
      allocator: this.#allocator,
      domid,
      device,
      random,
      abi: this.abi,
      order: victim ? 0 : random.from(0, 4),
      queues: victim ? 1 : random.from(1, maxQueues),
      persistent: transfer === 'persistent',
      nonsense: this.nonsense,
      patienceSeconds,
    });
    this.state = await this.connection.open();
  }

  async release(): Promise<void> {
    this.pages.release();
    this.#allocator.close();
    this.events.close();
    await this.#store.close();
  }
}
