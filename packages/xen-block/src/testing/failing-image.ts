import { constants } from 'node:os';
import { type BlockImage, type BlockOp, faultyImage, type MemoryImage, memoryImage } from '@xenpv/blockdev';

/** In shared memory. */
interface Faults {
  /** By BlockOp; 0 for none. */
  readonly errnos: Int32Array;
  /** Byte of the image. */
  readonly from: Int32Array;
  /** Milliseconds. */
  readonly delay: Int32Array;
}

/** Storage that fails operations as long as a test wants, on any thread. */
export class FailingStorage {
  readonly memory: MemoryImage;
  readonly #faults: Faults = {
    errnos: new Int32Array(new SharedArrayBuffer(8 * 4)),
    from: new Int32Array(new SharedArrayBuffer(4)),
    delay: new Int32Array(new SharedArrayBuffer(4)),
  };

  constructor(size = 1024 * 1024) {
    this.memory = memoryImage({ size });
  }

  /** Operations of these kinds fail from now on, or those of them that end behind `from`. */
  fail(errno: keyof typeof constants.errno | number, ops: readonly BlockOp[], from = 0): void {
    for (const op of ops)
      Atomics.store(this.#faults.errnos, op, typeof errno === 'number' ? errno : constants.errno[errno]);
    Atomics.store(this.#faults.from, 0, from);
  }

  /** Nothing fails any more. */
  mend(): void {
    this.#faults.errnos.fill(0);
    this.#faults.delay.fill(0);
  }

  /** Everything takes so many milliseconds more from now on. */
  delay(ms: number): void {
    Atomics.store(this.#faults.delay, 0, ms);
  }

  image(): BlockImage {
    const image = failing(this.memory, this.#faults);
    const memory = this.memory.share();
    const data = { memory, ...this.#faults };
    return Object.assign(image, { share: () => ({ module: moduleFor(memory.module), data }) });
  }

  /** What is stored. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.memory.data);
  }
}

function failing(inner: BlockImage, { errnos, from, delay }: Faults): BlockImage {
  return faultyImage(inner, ({ op, offset, length }) => {
    const errno = Atomics.load(errnos, op);
    const fails = errno > 0 && offset + length >= Atomics.load(from, 0);
    return { delay: Atomics.load(delay, 0), ...(fails ? { result: -errno } : {}) };
  });
}

/** The same for a worker, which can import no TypeScript. */
function moduleFor(attach: string): string {
  const text = `
    import { attachImage as attach } from '${attach}';
    import { faultyImage } from '${new URL('index.js', attach)}';
    export async function attachImage({ memory, errnos, from, delay }) {
      return faultyImage(await attach(memory.data), ({ op, offset, length }) =>
        ({ delay: delay[0], ...(errnos[op] > 0 && offset + length >= from[0] ? { result: -errnos[op] } : {}) }));
    }`;
  return `data:text/javascript,${encodeURIComponent(text)}`;
}
