import { strict as assert } from 'node:assert';
import type { EventChannels } from '../event-channels.js';
import { GrantCopyBatch, GrantStatus } from '../grant-copy.js';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import type { XenProvider } from '../provider.js';

/** One of the two domains that a provider is tested with. They may be the same one. */
export interface TestDomain {
  readonly domid: number;
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
  close(): void | Promise<void>;
}

/** The part of vitest, node:test, mocha or jest that the suite needs. */
export interface TestFramework {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: () => Promise<void>): unknown;
}

/** A domain that never is there (DOMID_IDLE is the first after the reserved ones that could be). */
const NOBODY = 0x7fef;
const NO_GRANT = 0x00ff_ffff;
const EVENT_TIMEOUT_MS = 5000;
/** Long enough for an event that should not come to show up. */
const QUIET_MS = 30;

/**
 * What every provider must do alike, as a test suite: `testProvider('emulator', make, { describe, it })`. Each test
 * makes two domains, checks one thing, closes all that it opened and then asks {@link TestDomains.leaks}.
 */
export function testProvider(name: string, makeTwoDomains: () => Promise<TestDomains>, framework: TestFramework): void {
  const { describe, it } = framework;
  const groups: Record<string, Record<string, (test: Session) => Promise<void>>> = {
    'event channels': eventTests,
    'grant mapping': mapTests,
    'grant copy': copyTests,
    'grant allocation': allocationTests,
    xenstore: xenstoreTests,
  };
  describe(`${name} provider`, () => {
    for (const [group, tests] of Object.entries(groups)) {
      describe(group, () => {
        for (const [title, test] of Object.entries(tests)) it(title, () => runTest(makeTwoDomains, test));
      });
    }
  });
}

async function runTest(
  makeTwoDomains: () => Promise<TestDomains>,
  test: (session: Session) => Promise<void>,
): Promise<void> {
  const domains = await makeTwoDomains();
  const session = new Session(domains);
  try {
    await test(session);
    session.closeAll();
    assert.deepEqual((await domains.leaks?.()) ?? [], [], 'nothing leaked');
  } finally {
    session.closeAll();
    await domains.close();
  }
}

interface Closable {
  close(): void;
}

/** The two domains, and everything that a test opened on them. */
class Session {
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
function fired(channels: EventChannels, timeoutMs = EVENT_TIMEOUT_MS): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      channels.listen(undefined);
      reject(new Error('no event'));
    }, timeoutMs);
    channels.listen((ports, count) => {
      clearTimeout(timer);
      channels.listen(undefined);
      resolve([...ports.subarray(0, count)]);
    });
  });
}

async function staysQuiet(channels: EventChannels): Promise<void> {
  await assert.rejects(fired(channels, QUIET_MS), /no event/);
}

function unmask(channels: EventChannels, ...ports: number[]): void {
  assert.equal(channels.unmask(Uint32Array.from(ports), ports.length), 0);
}

/** An error with one of `codes`. */
function code(...codes: string[]): (error: unknown) => boolean {
  return (error) => codes.includes((error as { code: string }).code);
}

const eventTests: Record<string, (session: Session) => Promise<void>> = {
  'a port bound to a remote one fires at once': async (session) => {
    const front = session.open(session.frontend.provider.openEventChannels());
    const back = session.open(session.backend.provider.openEventChannels());
    const frontPort = front.bindUnbound(session.backend.domid);
    const backPort = back.bindInterdomain(session.frontend.domid, frontPort);
    assert.deepEqual(await fired(back), [backPort]);
  },

  'events go both ways': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    assert.equal(back.notify(backPort), 0);
    assert.deepEqual(await fired(front), [frontPort]);
    unmask(front, frontPort);
    assert.equal(front.notify(frontPort), 0);
    assert.deepEqual(await fired(back), [backPort]);
  },

  'a delivered port stays masked until it is unmasked, and fires then for what came meanwhile': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
    back.notify(backPort);
    await staysQuiet(front);
    const again = fired(front);
    unmask(front, frontPort);
    assert.deepEqual(await again, [frontPort]);
    unmask(front, frontPort);
    await staysQuiet(front);
  },

  // Linux takes the first when it comes and keeps one more, a provider without interrupts may make one of all.
  'events that nobody took yet are one, or one and another': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    for (let i = 0; i < 10; i++) back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
    unmask(front, frontPort);
    await fired(front, QUIET_MS).then(
      () => unmask(front, frontPort),
      () => undefined,
    );
    await staysQuiet(front);
  },

  'pending reads what fired without waiting': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    const ports = new Uint32Array(4);
    assert.equal(front.pending(ports), 0);
    back.notify(backPort);
    assert.equal(front.pending(ports), 1);
    assert.equal(ports[0], frontPort);
    assert.equal(front.pending(ports), 0);
  },

  'an event is delivered to the handle that bound the port, and to no other': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    const other = session.open(session.frontend.provider.openEventChannels());
    back.notify(backPort);
    await staysQuiet(other);
    assert.ok(other.notify(frontPort) < 0);
    assert.throws(() => other.unbind(frontPort), code('EINVAL', 'ENOTCONN'));
    assert.deepEqual(await fired(front), [frontPort]);
  },

  'many ports fire in one delivery or several, each once': async (session) => {
    const channels = session.open(session.backend.provider.openEventChannels());
    const front = session.open(session.frontend.provider.openEventChannels());
    const expected = new Set<number>();
    for (let i = 0; i < 70; i++) {
      const port = front.bindUnbound(session.backend.domid);
      expected.add(channels.bindInterdomain(session.frontend.domid, port));
    }
    while (expected.size > 0) for (const port of await fired(channels)) assert.ok(expected.delete(port));
  },

  'what fired while nobody listened is delivered to the next listener': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    front.listen(() => assert.fail('stopped'));
    front.listen(undefined);
    back.notify(backPort);
    assert.deepEqual(await fired(front), [frontPort]);
  },

  'a port that is not open to us cannot be bound': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.throws(() => back.bindInterdomain(session.frontend.domid, 900), code('EINVAL'));
    const { frontPort } = await session.channel();
    assert.throws(() => back.bindInterdomain(session.frontend.domid, frontPort), code('EINVAL'));
  },

  'a domain that is not there cannot be bound to': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.throws(() => back.bindInterdomain(NOBODY, 1), code('ESRCH', 'EINVAL'));
  },

  'unbinding leaves the other end open to the same domain': async (session) => {
    const { front, back, frontPort, backPort } = await session.channel();
    back.unbind(backPort);
    assert.throws(() => back.unbind(backPort), code('EINVAL', 'ENOTCONN'));
    assert.ok(back.notify(backPort) < 0);
    assert.equal(front.notify(frontPort), 0);
    const again = back.bindInterdomain(session.frontend.domid, frontPort);
    front.notify(frontPort);
    assert.deepEqual(await fired(back), [again]);
  },

  'a port that is not bound here is refused': async (session) => {
    const back = session.open(session.backend.provider.openEventChannels());
    assert.ok(back.notify(1023) < 0);
  },

  'closing twice is harmless, and then nothing works': async (session) => {
    const { back, backPort } = await session.channel();
    back.close();
    back.close();
    assert.ok(back.notify(backPort) < 0);
    assert.throws(() => back.bindUnbound(session.frontend.domid), code('ERR_CLOSED'));
  },
};

const mapTests: Record<string, (session: Session) => Promise<void>> = {
  'both sides see the same page': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const ours = new Uint8Array(pages.buffer, pages.offsets[0], XEN_PAGE_SIZE);
    ours.set([1, 2, 3]);
    const mapping = table.map(domid, pages.refs, { writable: true });
    const theirs = new Uint8Array(mapping.buffer, mapping.offsets[0], XEN_PAGE_SIZE);
    assert.deepEqual([...theirs.subarray(0, 4)], [1, 2, 3, 0]);
    theirs[XEN_PAGE_SIZE - 1] = 9;
    assert.equal(ours[XEN_PAGE_SIZE - 1], 9);
    table.unmap(mapping);
    table.unmap(mapping);
  },

  'several pages are mapped in the order of their references': async (session) => {
    const { table, pages, domid } = session.granted(4);
    if (!session.backend.provider.features.mapMultiple) {
      assert.throws(() => table.map(domid, pages.refs, { writable: false }));
      return;
    }
    for (let i = 0; i < 4; i++) new Uint8Array(pages.buffer, pages.offsets[i], 1)[0] = i;
    const refs = Uint32Array.from([2, 0, 3, 1], (i) => pages.refs[i]);
    const mapping = table.map(domid, refs, { writable: false });
    const bytes = [...mapping.offsets].map((offset) => new Uint8Array(mapping.buffer, offset, 1)[0]);
    assert.deepEqual(bytes, [2, 0, 3, 1]);
    table.unmap(mapping);
    const straight = table.map(domid, pages.refs, { writable: false });
    assert.ok(straight.contiguous);
    table.unmap(straight);
  },

  'a read-only grant is mapped to read only': async (session) => {
    const { table, pages, domid } = session.granted(1, false);
    assert.throws(() => table.map(domid, pages.refs, { writable: true }), code('EACCES', 'EINVAL'));
    table.unmap(table.map(domid, pages.refs, { writable: false }));
  },

  'a reference that is not granted, or not to us, is refused': async (session) => {
    const { allocator, table, domid } = session.granted(1);
    assert.throws(() => table.map(domid, Uint32Array.of(NO_GRANT), { writable: false }), code('EINVAL'));
    const others = allocator.allocate(NOBODY, 1, { writable: true });
    assert.throws(() => table.map(domid, others.refs, { writable: false }), code('EINVAL'));
    assert.throws(() => table.map(NOBODY, others.refs, { writable: false }), code('EINVAL'));
  },

  'all references are mapped or none': async (session) => {
    const { allocator, table, pages, domid } = session.granted(2);
    const refs = Uint32Array.of(pages.refs[0], NO_GRANT, pages.refs[1]);
    assert.throws(() => table.map(domid, refs, { writable: true }), code('EINVAL'));
    allocator.release(pages);
  },

  'a page is mapped several times, and each is unmapped alone': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const first = table.map(domid, pages.refs, { writable: true });
    const second = table.map(domid, pages.refs, { writable: false });
    table.unmap(first);
    new Uint8Array(pages.buffer, pages.offsets[0], 1)[0] = 5;
    assert.equal(new Uint8Array(second.buffer, second.offsets[0], 1)[0], 5);
    table.unmap(second);
  },

  'a page released while it is mapped stays until it is unmapped': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1);
    new Uint8Array(pages.buffer, pages.offsets[0], 1)[0] = 7;
    const mapping = table.map(domid, pages.refs, { writable: true });
    allocator.release(pages);
    const next = allocator.allocate(session.backend.domid, 1, { writable: true });
    new Uint8Array(next.buffer, next.offsets[0], 1)[0] = 8;
    assert.equal(new Uint8Array(mapping.buffer, mapping.offsets[0], 1)[0], 7);
    table.unmap(mapping);
  },

  'closing unmaps, and then nothing works': async (session) => {
    const { table, pages, domid } = session.granted(1);
    table.map(domid, pages.refs, { writable: true });
    table.close();
    table.close();
    assert.throws(() => table.map(domid, pages.refs, { writable: true }), code('ERR_CLOSED'));
  },
};

/** A local buffer of `pages` pages, filled with `fill`, and its address. */
function localPages(table: { register(buffer: ArrayBufferLike): number }, pages: number, fill = 0) {
  const buffer = new ArrayBuffer(pages * XEN_PAGE_SIZE);
  const bytes = new Uint8Array(buffer).fill(fill);
  return { buffer, bytes, address: table.register(buffer) };
}

const copyTests: Record<string, (session: Session) => Promise<void>> = {
  'whole pages and parts of pages, both ways': async (session) => {
    const { table, pages, domid } = session.granted(2);
    const foreign = pages.refs.length === 2 ? [0, 1].map((i) => pageOf(pages, i)) : [];
    for (let i = 0; i < XEN_PAGE_SIZE; i++) foreign[0][i] = i & 0xff;
    const { bytes, address } = localPages(table, 3);
    const batch = new GrantCopyBatch(8);
    batch.fromGrant(domid, pages.refs[0], 0, address, XEN_PAGE_SIZE);
    batch.fromGrant(domid, pages.refs[0], 512, address + 5000, 1536);
    batch.fromGrant(domid, pages.refs[0], 3, address + 8001, 5);
    assert.equal(table.copy(batch), 0);
    for (let i = 0; i < 3; i++) assert.equal(batch.status(i), GrantStatus.okay);
    assert.deepEqual(bytes.subarray(0, XEN_PAGE_SIZE), foreign[0].slice());
    assert.deepEqual(bytes.subarray(5000, 6536), foreign[0].slice(512, 2048));
    assert.deepEqual([...bytes.subarray(8000, 8007)], [0, 3, 4, 5, 6, 7, 0]);

    batch.clear();
    batch.toGrant(domid, pages.refs[1], 0, address, XEN_PAGE_SIZE);
    batch.toGrant(domid, pages.refs[0], 4095, address + 8001, 1);
    assert.equal(table.copy(batch), 0);
    assert.deepEqual(foreign[1].slice(), bytes.slice(0, XEN_PAGE_SIZE));
    assert.equal(foreign[0][4095], 3);
  },

  'each segment has a status of its own': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1, false);
    const others = allocator.allocate(NOBODY, 1, { writable: true });
    const { bytes, address } = localPages(table, 1, 1);
    const batch = new GrantCopyBatch(8);
    batch.fromGrant(domid, pages.refs[0], 0, address, 512);
    batch.fromGrant(domid, NO_GRANT, 0, address, 512);
    batch.fromGrant(domid, others.refs[0], 0, address, 512);
    batch.toGrant(domid, pages.refs[0], 0, address, 512);
    batch.fromGrant(NOBODY, pages.refs[0], 0, address, 512);
    batch.fromGrant(domid, pages.refs[0], 512, address + 512, 512);
    assert.equal(table.copy(batch), 0);
    assert.equal(batch.status(0), GrantStatus.okay);
    for (let i = 1; i < 5; i++) assert.ok(batch.status(i) < 0, `segment ${i}: ${batch.status(i)}`);
    assert.equal(batch.status(5), GrantStatus.okay);
    assert.ok(bytes.subarray(0, 1024).every((byte) => byte === 0));
    assert.equal(bytes[1024], 1);
    assert.equal(pageOf(pages, 0)[0], 0);
  },

  'a batch is used again after clear': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const { bytes, address } = localPages(table, 1);
    const batch = new GrantCopyBatch(1);
    for (let value = 1; value < 4; value++) {
      pageOf(pages, 0).fill(value);
      batch.clear();
      batch.fromGrant(domid, pages.refs[0], 0, address, XEN_PAGE_SIZE);
      assert.equal(table.copy(batch), 0);
      assert.ok(bytes.every((byte) => byte === value));
    }
  },

  'a segment past the end of the foreign page refuses the batch': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const { address } = localPages(table, 1);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(domid, pages.refs[0], 4000, address, 512);
    assert.ok(table.copy(batch) < 0 || batch.status(0) < 0);
  },

  'a local address that is nobody’s refuses the batch': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(domid, pages.refs[0], 0, 0, 512);
    assert.ok(table.copy(batch) < 0 || batch.status(0) < 0);
  },

  'a buffer keeps its address while it is registered': async (session) => {
    const { table } = session.granted(1);
    const { buffer, address } = localPages(table, 1);
    assert.equal(table.register(buffer), address);
    table.unregister(buffer);
    table.unregister(buffer);
  },

  'shared memory is a local side too': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const buffer = new SharedArrayBuffer(2 * XEN_PAGE_SIZE);
    const batch = new GrantCopyBatch(1);
    pageOf(pages, 0).fill(6);
    batch.fromGrant(domid, pages.refs[0], 0, table.register(buffer) + XEN_PAGE_SIZE, XEN_PAGE_SIZE);
    assert.equal(table.copy(batch), 0);
    assert.equal(batch.status(0), GrantStatus.okay);
    const bytes = new Uint8Array(buffer);
    assert.deepEqual([bytes[XEN_PAGE_SIZE - 1], bytes[XEN_PAGE_SIZE], bytes[2 * XEN_PAGE_SIZE - 1]], [0, 6, 6]);
  },
};

function pageOf(pages: { buffer: ArrayBufferLike; offsets: Float64Array }, index: number): Uint8Array {
  return new Uint8Array(pages.buffer, pages.offsets[index], XEN_PAGE_SIZE);
}

const allocationTests: Record<string, (session: Session) => Promise<void>> = {
  'pages are zero, in a row, and granted by references of their own': async (session) => {
    const { allocator, pages } = session.granted(5);
    assert.ok(pages.contiguous);
    assert.equal(new Set(pages.refs).size, 5);
    for (let i = 0; i < 5; i++) {
      assert.equal(pages.offsets[i], pages.offsets[0] + i * XEN_PAGE_SIZE);
      assert.ok(pageOf(pages, i).every((byte) => byte === 0));
      pageOf(pages, i).fill(0xff);
    }
    allocator.release(pages);
    const again = allocator.allocate(session.backend.domid, 5, { writable: true });
    for (let i = 0; i < 5; i++) assert.ok(pageOf(again, i).every((byte) => byte === 0));
  },

  'a released grant is no longer good': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1);
    allocator.release(pages);
    allocator.release(pages);
    assert.throws(() => table.map(domid, pages.refs, { writable: false }), code('EINVAL'));
  },

  'closing releases, and then nothing works': async (session) => {
    const { allocator, table, pages, domid } = session.granted(2);
    allocator.close();
    allocator.close();
    assert.throws(() => table.map(domid, pages.refs, { writable: false }), code('EINVAL'));
    assert.throws(() => allocator.allocate(domid, 1, { writable: true }), code('ERR_CLOSED'));
  },
};

/** XS_GET_DOMAIN_PATH of domain 0, a message as xs_wire.h has it. */
function domainPathRequest(): Uint8Array {
  const message = new Uint8Array(18);
  const view = new DataView(message.buffer);
  view.setUint32(0, 10, true);
  view.setUint32(4, 42, true);
  view.setUint32(12, 2, true);
  message[16] = 0x30;
  return message;
}

const xenstoreTests: Record<string, (session: Session) => Promise<void>> = {
  'a connection answers, and closes': async (session) => {
    const transport = await session.backend.provider.connectXenstore();
    const answer = await new Promise<string>((resolve, reject) => {
      let received = Buffer.alloc(0);
      transport.start({
        data: (chunk) => {
          received = Buffer.concat([received, chunk]);
          if (received.includes('/local/domain/0')) resolve(received.subarray(16).toString());
        },
        close: (error) => reject(error ?? new Error('closed')),
      });
      transport.send(domainPathRequest());
    });
    assert.match(answer, /^\/local\/domain\/0\0?$/);
    await transport.close();
    await transport.close();
  },

  'what is shared with another thread can be cloned': async (session) => {
    const shared = session.frontend.provider.share();
    assert.deepEqual(structuredClone(shared), shared);
    assert.match(shared.module, /^file:|^@/);
  },
};
