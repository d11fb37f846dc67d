import { Errno, type ForeignMapping, type ForeignMemory, XenSysError } from '@xenpv/xen-sys';
import type { Machine } from '../machine/machine.js';
import { closed } from './closed.js';
import { areContiguous, frameOffsets } from './grant-mapping.js';

/** Foreign mapping, which the emulator allows to domain 0 alone. */
export class EmulatedForeignMemory implements ForeignMemory {
  readonly #machine: Machine;
  #closed = false;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  map(domid: number, frames: ArrayLike<number>, _options: { writable: boolean }): ForeignMapping {
    if (this.#closed) throw closed('foreignmem.map');
    const domain = this.#machine.find(domid);
    if (domain === undefined) throw new XenSysError('ESRCH', 'foreignmem.map', `there is no domain ${domid}`);
    const { size, ram } = domain.memory;
    const errors = Int32Array.from(frames, (frame) => (frame >= 0 && frame < size.pages ? 0 : Errno.EINVAL));
    if (errors.length > 0 && errors.every((error) => error !== 0)) {
      throw new XenSysError('EINVAL', 'foreignmem.map', `domain ${domid} has no frame ${frames[0]}`);
    }
    const offsets = frameOffsets(frames);
    return { buffer: ram, offsets, errors, contiguous: areContiguous(offsets) };
  }

  unmap(_mapping: ForeignMapping): void {}

  close(): void {
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
