import {
  type Domid,
  type EvtchnPort,
  GrantCopyBatch,
  type GrantedPages,
  type GrantMapping,
  GrantStatus,
  type Gref,
  XEN_PAGE_SIZE,
} from '@xenpv/xen-sys';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { EmulatedDomain } from '../domain.js';
import { EmulatedHost } from '../host.js';
import type { EmulatedEventChannels } from './event-channels.js';

let host: EmulatedHost;
let guest: EmulatedDomain;

async function setUp(): Promise<void> {
  host = await EmulatedHost.create();
  guest = await host.createDomain({ name: 'guest', memoryMiB: 0.125 });
}

/** What the emulator must agree with: what was granted, and what is mapped. */
interface Granted {
  readonly pages: GrantedPages;
  readonly writable: boolean;
  readonly mark: number;
  released: boolean;
  mappings: number;
}

class Model {
  readonly granted: Granted[] = [];
  readonly mappings: { readonly mapping: GrantMapping; readonly of: Granted }[] = [];
  #marks = 0;

  newMark(): number {
    return ++this.#marks;
  }

  /** Pages that cannot be given out: granted, or released and still mapped. */
  pagesInUse(): number {
    const held = this.granted.filter(({ released, mappings }) => !released || mappings > 0);
    return held.reduce((sum, { pages }) => sum + pages.refs.length, 0);
  }

  live(): Granted[] {
    return this.granted.filter(({ released }) => !released);
  }
}

interface Real {
  readonly allocator: ReturnType<EmulatedDomain['provider']['openGrantAllocator']>;
  readonly table: ReturnType<EmulatedDomain['provider']['openGrantTable']>;
  readonly local: Int32Array;
  readonly address: number;
}

type Step = (model: Model, real: Real) => void;

function firstWord(pages: { buffer: ArrayBufferLike; offsets: Float64Array }): Int32Array {
  return new Int32Array(pages.buffer, pages.offsets[0], 1);
}

const allocate = (count: number, writable: boolean): Step => {
  return (model, { allocator }) => {
    let pages: GrantedPages;
    try {
      pages = allocator.allocate(0, count, { writable });
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOMEM' });
      return;
    }
    expect(firstWord(pages)[0]).toBe(0);
    const granted = { pages, writable, mark: model.newMark(), released: false, mappings: 0 };
    firstWord(pages)[0] = granted.mark;
    model.granted.push(granted);
  };
};

const release = (which: number): Step => {
  return (model, { allocator }) => {
    const granted = pick(model.granted, which);
    if (granted === undefined) return;
    allocator.release(granted.pages);
    granted.released = true;
  };
};

const map = (which: number, writable: boolean): Step => {
  return (model, { table }) => {
    const of = pick(model.live(), which);
    if (of === undefined) return;
    if (writable && !of.writable) {
      expect(() => table.map(guest.domid, of.pages.refs, { writable })).toThrow(/read-only/);
      return;
    }
    model.mappings.push({ mapping: table.map(guest.domid, of.pages.refs, { writable }), of });
    of.mappings++;
  };
};

const unmap = (which: number): Step => {
  return (model, { table }) => {
    const index = model.mappings.length === 0 ? -1 : which % model.mappings.length;
    if (index < 0) return;
    const [{ mapping, of }] = model.mappings.splice(index, 1);
    expect(firstWord(mapping)[0]).toBe(of.mark);
    table.unmap(mapping);
    of.mappings--;
  };
};

const copy = (which: number): Step => {
  return (model, { table, local, address }) => {
    const of = pick(model.granted, which);
    if (of === undefined) return;
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(guest.domid, of.pages.refs[0], 0, address, XEN_PAGE_SIZE);
    expect(table.copy(batch)).toBe(0);
    const owner = model.live().find(({ pages }) => pages.refs.includes(of.pages.refs[0]));
    expect(batch.status(0)).toBe(owner === undefined ? GrantStatus.generalError : GrantStatus.okay);
    if (owner === of) expect(local[0]).toBe(of.mark);
  };
};

function pick<T>(items: readonly T[], which: number): T | undefined {
  return items[which % Math.max(items.length, 1)];
}

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(fc.integer({ min: 1, max: 6 }), fc.boolean()).map(([count, writable]) => allocate(count, writable)),
  fc.nat(1000).map(release),
  fc.tuple(fc.nat(1000), fc.boolean()).map(([which, writable]) => map(which, writable)),
  fc.nat(1000).map(unmap),
  fc.nat(1000).map(copy),
);

describe('grants in any order', () => {
  beforeAll(setUp);
  afterAll(() => host.close());

  it('give every page to one owner, keep mapped pages, refuse ended grants, and leak nothing', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const allocator = guest.provider.openGrantAllocator();
        const table = host.provider().openGrantTable();
        const local = new Int32Array(new SharedArrayBuffer(XEN_PAGE_SIZE));
        const real = { allocator, table, local, address: table.register(local.buffer) };
        const model = new Model();
        for (const run of steps) {
          run(model, real);
          expect(guest.usage().frames).toBe(model.pagesInUse());
        }
        allocator.close();
        table.close();
        expect(guest.usage()).toMatchObject({ grants: 0, mapped: 0, frames: 0 });
      }),
      { numRuns: 150 },
    );
  });
});

describe('grants', () => {
  beforeEach(setUp);
  afterEach(() => host.close());

  it('are refused by the reserved references, and beyond the table', () => {
    const table = host.provider().openGrantTable();
    const address = table.register(new ArrayBuffer(XEN_PAGE_SIZE));
    const batch = new GrantCopyBatch(4);
    for (const ref of [0, 7, 4096, 0xffff_ffff]) batch.fromGrant(guest.domid, ref, 0, address, 512);
    expect(table.copy(batch)).toBe(0);
    for (let i = 0; i < 4; i++) expect(batch.status(i)).toBe(GrantStatus.badGntref);
  });

  it('answer as the kernel does to a segment that makes no sense', () => {
    const table = host.provider().openGrantTable();
    const { refs } = guest.provider.openGrantAllocator().allocate(0, 2, { writable: true });
    const address = table.register(new ArrayBuffer(XEN_PAGE_SIZE));
    const copied = (fill: (batch: GrantCopyBatch) => void) => {
      const batch = new GrantCopyBatch(1);
      fill(batch);
      return table.copy(batch);
    };
    expect(copied((batch) => batch.fromGrant(guest.domid, refs[0], 4000, address, 97))).toBe(-22);
    expect(copied((batch) => batch.fromGrant(guest.domid, refs[0], 0, address + 4000, 97))).toBe(-14);
    expect(copied((batch) => batch.toGrant(guest.domid, refs[0], 0, address + 2 ** 32, 97))).toBe(-14);
    expect(
      copied((batch) => {
        batch.toGrant(guest.domid, refs[0], 0, address, 8);
        batch.words[4] = 8;
      }),
    ).toBe(-22);
    table.close();
    expect(copied((batch) => batch.fromGrant(guest.domid, refs[0], 0, address, 8))).toBe(-22);
  });

  it('are copied from one to another', () => {
    const table = host.provider().openGrantTable();
    const pages = guest.provider.openGrantAllocator().allocate(0, 2, { writable: true });
    new Uint8Array(pages.buffer, pages.offsets[0], XEN_PAGE_SIZE).fill(3);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(guest.domid, pages.refs[0], 0, 0, XEN_PAGE_SIZE);
    batch.words.set([pages.refs[1], guest.domid << 16, (3 << 16) | XEN_PAGE_SIZE], 2);
    expect(table.copy(batch)).toBe(0);
    expect(batch.status(0)).toBe(GrantStatus.okay);
    expect(new Uint8Array(pages.buffer, pages.offsets[1], XEN_PAGE_SIZE).every((byte) => byte === 3)).toBe(true);
  });

  it('fail when pages or references run out, and take nothing then', () => {
    const allocator = guest.provider.openGrantAllocator();
    const { frames } = guest.usage();
    expect(() => allocator.allocate(0, 32, { writable: true })).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(() => allocator.allocate(0, 1000, { writable: true })).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    expect(guest.usage().frames).toBe(frames);
    expect(allocator.allocate(0, 31, { writable: true }).refs.length).toBe(31);
  });

  it('are for a domid, or for oneself', () => {
    const allocator = guest.provider.openGrantAllocator();
    for (const domid of [-1, 0x7ff1, Number.NaN]) {
      expect(() => allocator.allocate(domid, 1, { writable: true })).toThrow(
        expect.objectContaining({ code: 'EINVAL' }),
      );
    }
    const { refs } = allocator.allocate(0x7ff0, 1, { writable: true });
    expect(guest.provider.openGrantTable().map(guest.domid, refs, { writable: true }).refs).toEqual(refs);
  });

  it('of a destroyed domain stay with those who have them mapped, and cannot be mapped or copied any more', async () => {
    const table = host.provider().openGrantTable();
    const pages = guest.provider.openGrantAllocator().allocate(0, 1, { writable: true });
    const mapping = table.map(guest.domid, pages.refs, { writable: true });
    const bytes = new Uint8Array(mapping.buffer, mapping.offsets[0], XEN_PAGE_SIZE).fill(4);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(guest.domid, pages.refs[0], 0, table.register(new ArrayBuffer(XEN_PAGE_SIZE)), 512);
    expect(table.copy(batch)).toBe(0);
    expect(batch.status(0)).toBe(GrantStatus.okay);

    await guest.destroy();
    expect(bytes[100]).toBe(4);
    expect(() => table.map(guest.domid, pages.refs, { writable: true })).toThrow(/no domain/);
    expect(table.copy(batch)).toBe(0);
    expect(batch.status(0)).toBe(GrantStatus.badDomain);
    table.unmap(mapping);
    table.unmap(mapping);
    table.close();
  });
});

/** Never run: the compiler says what holds. */
export function isCompiled(
  events: EmulatedEventChannels,
  { domid, gref, port }: { domid: Domid; gref: Gref; port: EvtchnPort },
): void {
  events.notify(events.bindInterdomain(domid, port));
  events.bindInterdomain(5, 7);
  // @ts-expect-error domain and port are swapped
  events.bindInterdomain(port, domid);
  // @ts-expect-error a domain is no port
  events.unbind(domid);
  // @ts-expect-error a grant reference is no port
  events.notify(gref);
  // @ts-expect-error what is bound is a port, and no domain
  events.bindUnbound(events.bindUnbound(domid));
}
