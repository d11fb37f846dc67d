import type { Blkfront } from '@xenpv/blkfront';
import { BlockOp } from '@xenpv/blockdev';
import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { FailingStorage } from '../testing/failing-image.js';
import { TestHost } from '../testing/host.js';

const PAGE = 4096;
const PAGES = 64;

type Step =
  | { readonly do: 'write' | 'barrier' | 'discard'; readonly page: number; readonly pages: number }
  | { readonly do: 'read'; readonly page: number; readonly pages: number }
  | { readonly do: 'fail'; readonly op: BlockOp; readonly from: number; readonly errno: 'EIO' | 'ENOSPC' }
  | { readonly do: 'delay'; readonly ms: number }
  | { readonly do: 'flush' | 'mend' | 'resume' | 'drain' | 'undrain' | 'breathe' };

const range = { page: fc.nat(PAGES - 33), pages: fc.integer({ min: 1, max: 32 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('write', 'read'), ...range }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('barrier', 'discard'), ...range }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      op: fc.constantFrom(BlockOp.read, BlockOp.write, BlockOp.writeFua, BlockOp.flush, BlockOp.discard),
      from: fc.nat(PAGES * PAGE),
      errno: fc.constantFrom('EIO', 'ENOSPC'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delay' as const), ms: fc.nat(3) }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constantFrom('flush', 'mend', 'resume', 'drain', 'undrain', 'breathe') }),
  },
);

/** One disk under steps of any order. Each page has one request at a time, so that its content is known. */
class Model {
  readonly host: TestHost;
  readonly storage: FailingStorage;
  readonly disk: Blkfront;
  readonly #content = new Uint8Array(PAGES);
  readonly #busy = new Set<number>();
  readonly #requests: Promise<void>[] = [];
  #drains = 0;
  #fill = 0;

  constructor(host: TestHost, storage: FailingStorage, disk: Blkfront) {
    this.host = host;
    this.storage = storage;
    this.disk = disk;
  }

  async take(step: Step): Promise<void> {
    switch (step.do) {
      case 'fail':
        return this.storage.fail(step.errno, [step.op], step.from);
      case 'delay':
        return this.storage.delay(step.ms);
      case 'mend':
        return this.storage.mend();
      case 'resume':
        return void (await this.host.device.resume());
      case 'drain':
        this.#drains++;
        return this.host.device.drain();
      case 'undrain':
        if (this.#drains > 0) this.host.device.undrain();
        this.#drains = Math.max(0, this.#drains - 1);
        return;
      case 'breathe':
        return new Promise((resolve) => setImmediate(resolve));
      case 'flush':
        return void this.#requests.push(this.disk.flush());
      default:
        return this.#move(step.do, step.page, step.pages);
    }
  }

  /** Everything is well again: each request must be answered, with the right data. */
  async end(): Promise<void> {
    while (this.#drains-- > 0) this.host.device.undrain();
    this.storage.mend();
    let over = false;
    const all = Promise.all(this.#requests).then(() => {
      over = true;
    });
    while (!over) {
      await this.host.device.resume();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await all;
    const wrong = Array.from(this.#content.keys()).filter((page) => !this.#holds(this.#page(page), page));
    expect(wrong).toEqual([]);
    await vi.waitFor(() => expect(this.host.device.statistics()).toMatchObject({ inFlight: 0, kept: 0 }));
    expect(this.host.device.oldestRequestMs).toBe(0);
  }

  #move(what: 'read' | 'write' | 'barrier' | 'discard', page: number, pages: number): void {
    const range = Array.from({ length: pages }, (_, i) => page + i);
    if (range.some((n) => this.#busy.has(n))) return;
    for (const n of range) this.#busy.add(n);
    const done = () => range.forEach((n) => void this.#busy.delete(n));
    const at = page * PAGE;
    const length = pages * PAGE;
    const fill = what === 'discard' ? 0 : (this.#fill = (this.#fill % 255) + 1);
    if (what !== 'read') this.#content.fill(fill, page, page + pages);
    const mode = what === 'barrier' ? 'barrier' : 'plain';
    const moved =
      what === 'read'
        ? this.disk.read(at, length).then((data) => {
            const bad = range.filter((n, i) => !this.#holds(data.subarray(i * PAGE, (i + 1) * PAGE), n));
            expect(bad).toEqual([]);
          })
        : what === 'discard'
          ? this.disk.discard(at, length)
          : this.disk.write(at, new Uint8Array(length).fill(fill), { mode });
    this.#requests.push(moved.then(done));
  }

  #page(n: number): Uint8Array {
    return this.storage.bytes.subarray(n * PAGE, (n + 1) * PAGE);
  }

  #holds(bytes: Uint8Array, page: number): boolean {
    return bytes.every((byte) => byte === this.#content[page]);
  }
}

it.each([
  ['copy', 0, 1],
  ['map', 0, 2],
  ['persistent', 0, 1],
  ['copy', 2, 2],
] as const)(
  'whatever fails, drains and resumes in any order: each request is answered once, its data right (%s, %i threads, %i rings)',
  async (dataPath, threads, queues) => {
    const limits = { maxQueues: queues, maxIndirectSegments: 32 };
    await using host = await TestHost.start({ onError: 'stop', dataPath, threads, limits, memoryBytes: 256 * 1024 });
    const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const storage = new FailingStorage(PAGES * PAGE);
      host.images.set('disk', () => storage.image());
      const guest = await host.guest();
      const disk = await guest.connect({ queues });
      const model = new Model(host, storage, disk);
      for (const step of steps) await model.take(step);
      await model.end();
      await disk.close();
      await guest.destroy();
      await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]));
    });
    await fc.assert(property, { numRuns: 25 });
  },
  60_000,
);
