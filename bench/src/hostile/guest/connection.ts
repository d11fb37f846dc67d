import type { Abi } from '@xenpv/blkif';
import { FrontRing } from '@xenpv/ring';
import type { EventChannels, GrantAllocator, GrantedPages } from '@xenpv/xen-sys';
import type { XenstoreClient, XenstoreOperations } from '@xenpv/xenstore';
import type { Random } from '../../program/random.js';
import { PAGE } from '../oracle/contents.js';

export const State = { initialising: 1, initWait: 2, initialised: 3, connected: 4, closing: 5, closed: 6 } as const;

const BACKEND = 0;

export interface ConnectionOptions {
  readonly store: XenstoreClient;
  readonly events: EventChannels;
  readonly allocator: GrantAllocator;
  readonly domid: number;
  readonly device: number;
  readonly random: Random;
  readonly abi: Abi;
  readonly order: number;
  readonly queues: number;
  readonly persistent: boolean;
  /** Keys are written that no frontend would write. */
  readonly nonsense: boolean;
  /** How long the backend may take to answer. */
  readonly patienceSeconds: number;
}

export interface GuestRing {
  readonly ring: FrontRing;
  readonly shared: Int32Array;
  readonly port: number;
}

/** A frontend's side of xenstore, by hand, so that it can be done wrong in every way. */
export class Connection {
  readonly rings: GuestRing[] = [];
  readonly #o: ConnectionOptions;
  readonly #own: string;
  readonly #pages: GrantedPages[] = [];
  #backend = '';
  /** The key that was written wrongly, for messages. */
  nonsense = '';

  constructor(options: ConnectionOptions) {
    this.#o = options;
    this.#own = `/local/domain/${options.domid}/device/vbd/${options.device}`;
  }

  /** The backend's state in the end: connected, or one that refuses. */
  async open(): Promise<number> {
    const { store, queues } = this.#o;
    this.#backend = (await store.tryRead(`${this.#own}/backend`)) ?? '';
    const ready = await this.#waitFor('to be ready', (state) => state === State.initWait || state >= State.closing);
    if (ready !== State.initWait) return ready;
    for (let i = 0; i < queues; i++) this.#makeRing();
    const keys = this.#keys();
    if (this.#o.nonsense) this.#spoil(keys);
    await store.transaction(async (tx) => {
      for (const [name, text] of keys) await tx.write(`${this.#own}/${name}`, text);
    });
    await this.setState(State.initialised);
    const state = await this.#waitFor(
      'to connect or to refuse',
      (is) => is === State.connected || is >= State.closing || is === 0,
    );
    if (state === State.connected) await this.setState(State.connected);
    return state;
  }

  async read(key: string): Promise<number> {
    return Number((await this.#o.store.tryRead(`${this.#backend}/${key}`)) ?? 0);
  }

  /** In the frontend's own directory. Whoever does that when the directory is gone is told nothing. */
  async write(key: string, text: string): Promise<void> {
    const { store } = this.#o;
    await store.transaction(async (tx) => {
      if (await tx.exists(`${this.#own}/backend`)) await tx.write(`${this.#own}/${key}`, text);
    });
  }

  setState(state: number): Promise<void> {
    return this.write('state', String(state));
  }

  /** Closes as Linux does, and waits for the backend. */
  async close(): Promise<void> {
    await this.setState(State.closing);
    await this.#waitFor('to close', (state) => state >= State.closing || state === 0);
    await this.setState(State.closed);
    await this.#waitFor('to be closed', (state) => state === State.closed || state < State.initialised);
  }

  /** Resolves when the backend will not go on. */
  async refused(): Promise<void> {
    await this.#waitFor('to stop', (state) => state >= State.closing || state === 0);
  }

  /** Ends the grants and the event channels of the rings. */
  release(): void {
    const { allocator, events } = this.#o;
    for (const pages of this.#pages.splice(0)) allocator.release(pages);
    for (const { port } of this.rings.splice(0)) events.unbind(port);
  }

  async #waitFor(what: string, verdict: (state: number) => boolean): Promise<number> {
    const { store, patienceSeconds, domid } = this.#o;
    const look = async (ops: XenstoreOperations) => {
      const state = Number((await ops.tryRead(`${this.#backend}/state`)) ?? 0);
      return verdict(state) ? state : undefined;
    };
    try {
      return await store.waitFor(look, { signal: AbortSignal.timeout(patienceSeconds * 1000) });
    } catch (cause) {
      const state = await store.tryRead(`${this.#backend}/state`);
      const text = `domain ${domid} waits for the backend ${what}, which is in state ${state}; ${this.nonsense}`;
      throw new Error(text, { cause });
    }
  }

  #makeRing(): void {
    const { allocator, events, order, abi } = this.#o;
    const pages = allocator.allocate(BACKEND, 2 ** order, { writable: true });
    this.#pages.push(pages);
    const memory = { buffer: pages.buffer, byteOffset: pages.offsets[0], byteLength: PAGE << order };
    const ring = new FrontRing(memory, abi.slotBytes);
    const shared = new Int32Array(pages.buffer, pages.offsets[0], (PAGE << order) / 4);
    this.rings.push({ ring, shared, port: events.bindUnbound(BACKEND) });
  }

  #keys(): Map<string, string> {
    const { abi, order, queues, persistent } = this.#o;
    const keys = new Map([
      ['protocol', abi.protocol as string],
      ['feature-persistent', persistent ? '1' : '0'],
    ]);
    if (order > 0) keys.set('ring-page-order', String(order));
    if (queues > 1) keys.set('multi-queue-num-queues', String(queues));
    for (const [i, { port }] of this.rings.entries()) {
      const below = queues > 1 ? `queue-${i}/` : '';
      const { refs } = this.#pages[i];
      keys.set(`${below}event-channel`, String(port));
      if (order === 0) keys.set(`${below}ring-ref`, String(refs[0]));
      else for (const [page, ref] of refs.entries()) keys.set(`${below}ring-ref${page}`, String(ref));
    }
    return keys;
  }

  /** Another text for one key, or none; or more keys. */
  #spoil(keys: Map<string, string>): void {
    const { random } = this.#o;
    const name = random.pick([...keys.keys(), 'ring-page-order', 'multi-queue-num-queues', 'num-ring-pages']);
    if (random.oneIn(8)) keys.delete(name);
    else keys.set(name, nonsense(random));
    this.nonsense = `${name} is ${keys.get(name)?.slice(0, 30)}`;
    if (random.oneIn(3)) keys.set(random.pick(['params', 'mode', 'sectors', 'queue-0/x', 'a/b/c']), nonsense(random));
  }
}

/** A text that no frontend writes where a number is expected. */
export function nonsense(random: Random): string {
  return random.pick([
    '',
    '0',
    '-1',
    '1',
    '5',
    '9',
    '4096',
    '65536',
    '4294967295',
    '4294967296',
    '18446744073709551615',
    '99999999999999999999999999',
    '0x10',
    ' 7',
    '7 ',
    '1e3',
    'NaN',
    'x86_64-abi',
    'm68k-abi',
    '\u0001\u0002',
    'a'.repeat(2000),
    '/local/domain/0/backend',
    '../../0',
  ]);
}
