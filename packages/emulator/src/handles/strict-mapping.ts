/**
 * Mappings of a host with strict memory. They show what a real Xen would punish, as far as JavaScript can: no view of shared
 * memory can be taken back, so a writable mapping only ends its own buffer, and what is written through older views is
 * found in the frames; a mapping to be read only is a copy, which can be compared and taken back.
 */
import { XEN_PAGE_SIZE, XenSysError } from '@xenpv/xen-sys';
import type { MachineDomain } from '../machine/machine.js';
import { EmulatedMapping, frameOffsets } from './grant-mapping.js';

const GONE = new ArrayBuffer(0);

/** A mapping whose misuse is an error. */
export function strictMapping(
  granter: MachineDomain,
  refs: Uint32Array,
  frames: Uint32Array,
  options: { readonly writable: boolean },
): EmulatedMapping {
  return options.writable ? new WritableMapping(granter, refs, frames) : new ReadOnlyMapping(granter, refs, frames);
}

/** Its buffer is empty once it was unmapped, as a detached one is. */
class WritableMapping extends EmulatedMapping {
  constructor(granter: MachineDomain, refs: Uint32Array, frames: Uint32Array) {
    super(granter, refs, frameOffsets(frames), { writable: true });
  }

  override get buffer(): ArrayBufferLike {
    return this.unmapped ? GONE : super.buffer;
  }
}

/**
 * A copy of the pages, brought up to date whenever the buffer or a page is asked for; views that were taken before stay
 * views of the copy. It is detached when it is unmapped. Whoever wrote to it hears of it at the next of these.
 */
class ReadOnlyMapping extends EmulatedMapping {
  readonly #sources: readonly Uint8Array[];
  readonly #copy: ArrayBuffer;
  /** What the copy was when it was last brought up to date. */
  readonly #seen: Buffer;

  constructor(granter: MachineDomain, refs: Uint32Array, frames: Uint32Array) {
    super(
      granter,
      refs,
      Float64Array.from(frames, (_, index) => index * XEN_PAGE_SIZE),
      { writable: false },
    );
    this.#sources = Array.from(frames, (frame) => granter.memory.views.page(frame));
    this.#copy = new ArrayBuffer(refs.length * XEN_PAGE_SIZE);
    this.#seen = Buffer.alloc(this.#copy.byteLength);
    this.#update();
  }

  override get buffer(): ArrayBufferLike {
    if (!this.unmapped) this.#update();
    return this.#copy;
  }

  override end(): void {
    super.end();
    try {
      this.#check();
    } finally {
      // Detaches it.
      structuredClone(this.#copy, { transfer: [this.#copy] });
    }
  }

  #update(): void {
    this.#check();
    for (const [index, source] of this.#sources.entries()) this.#seen.set(source, index * XEN_PAGE_SIZE);
    Buffer.from(this.#copy).set(this.#seen);
  }

  #check(): void {
    const now = Buffer.from(this.#copy);
    if (now.equals(this.#seen)) return;
    const at = now.findIndex((byte, index) => byte !== this.#seen[index]);
    const ref = this.refs[Math.floor(at / XEN_PAGE_SIZE)];
    const where = `byte ${at % XEN_PAGE_SIZE} of grant ${ref} of domain ${this.domid}`;
    const message = `${where} was written to through a mapping that is to be read only; map it with writable: true`;
    // Told once.
    now.set(this.#seen);
    throw new XenSysError('EFAULT', 'gnttab.map', message);
  }
}
