import { strict as assert } from 'node:assert';
import type { EventChannels } from '../event-channels.js';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import type { XenProvider } from '../provider.js';

/** One of the two domains that a provider is tested with. They may be the same one. */
export interface TestDomain {
  /** The number by which the other domain names it. */
  readonly domid: number;
  /** Xen as this domain sees it. */
  readonly provider: XenProvider;
}

/** What a provider is tested with, made anew for every test. */
export interface TestDomains {
  /** Maps and copies. */
  readonly backend: TestDomain;
  /** Grants; its provider must have a grant allocator. */
  readonly frontend: TestDomain;
  /** What the domains still hold once everything was closed, for people to read; empty when nothing leaked. */
  leaks?(): string[] | Promise<string[]>;
  /** Called once after each test, also a failed one, when all handles are closed. */
  close(): void | Promise<void>;
}

/** Tests of one group, by their titles. */
export type SuiteTests = Record<string, (session: SuiteSession) => Promise<void>>;

/** A domain that never is there (DOMID_IDLE is the first after the reserved ones that could be). */
export const NOBODY = 0x7fef;
/** A reference that nobody granted. */
export const NO_GRANT = 0x00ff_ffff;
const EVENT_TIMEOUT_MS = 5000;

interface Closable {
  close(): void;
}

/** The two domains, and everything that a test opened on them. */
export class SuiteSession {
  readonly backend: TestDomain;
  readonly frontend: TestDomain;
  readonly #opened: Closable[] = [];

  constructor(domains: TestDomains) {
    this.backend = domains.backend;
    this.frontend = domains.frontend;
  }

  /** Closes `handle` after the test. */
  open<T extends Closable>(handle: T): T {
    this.#opened.push(handle);
    return handle;
  }

  closeAll(): void {
    for (const handle of this.#opened) handle.close();
  }

  /** A channel between the domains, with the event of its binding taken away. */
  async channel(): Promise<Channel> {
    const front = this.open(this.frontend.provider.openEventChannels());
    const back = this.open(this.backend.provider.openEventChannels());
    const frontPort = front.bindUnbound(this.backend.domid);
    const backPort = back.bindInterdomain(this.frontend.domid, frontPort);
    assert.deepEqual(await fired(back), [backPort]);
    unmask(back, backPort);
    return { front, back, frontPort, backPort };
  }

  /**
   * What has fired on a handle of the frontend's, without waiting for what should not come: the ports that fire before
   * one that is notified now, and so after all that was sent so far.
   */
  async firedSoFar(channels: EventChannels): Promise<number[]> {
    const back = this.open(this.backend.provider.openEventChannels());
    const last = channels.bindUnbound(this.backend.domid);
    assert.equal(back.notify(back.bindInterdomain(this.frontend.domid, last)), 0);
    const ports: number[] = [];
    while (!ports.includes(last)) ports.push(...(await fired(channels)));
    channels.unbind(last);
    return ports.filter((port) => port !== last);
  }

  /** Pages of the frontend granted to the backend, and handles on both sides. */
  granted(count: number, writable = true) {
    const allocator = this.open(this.frontend.provider.openGrantAllocator());
    const table = this.open(this.backend.provider.openGrantTable());
    const pages = allocator.allocate(this.backend.domid, count, { writable });
    return { allocator, table, pages, domid: this.frontend.domid };
  }
}

interface Channel {
  readonly front: EventChannels;
  readonly back: EventChannels;
  readonly frontPort: number;
  readonly backPort: number;
}

/** The next ports that fire on `channels`; rejects when none does. */
export function fired(channels: EventChannels): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      channels.listen(undefined);
      reject(new Error('no event'));
    }, EVENT_TIMEOUT_MS);
    channels.listen((ports, count) => {
      clearTimeout(timer);
      channels.listen(undefined);
      resolve([...ports.subarray(0, count)]);
    });
  });
}

export function unmask(channels: EventChannels, ...ports: number[]): void {
  assert.equal(channels.unmask(Uint32Array.from(ports), ports.length), 0);
}

/** An error with one of `codes`. */
export function code(...codes: string[]): (error: unknown) => boolean {
  return (error) => codes.includes((error as { code: string }).code);
}

/** The bytes of the `index`-th of pages that were granted or mapped. */
export function pageOf(pages: { buffer: ArrayBufferLike; offsets: Float64Array }, index: number): Uint8Array {
  return new Uint8Array(pages.buffer, pages.offsets[index], XEN_PAGE_SIZE);
}
