import { type ForeignMemoryLibrary, loadAddon } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { errnoError, XenSysError } from '../errors.js';
import type { ForeignMapping, ForeignMemory } from '../foreign-memory.js';
import { pageOffsets } from './pages.js';

/** The soname, and the Debian package that brings it. */
export const FOREIGN_MEMORY_LIBRARY = 'libxenforeignmemory.so.1';
const PACKAGE = 'libxenforeignmemory1';

/** libxenforeignmemory over /dev/xen/privcmd. */
export class NativeForeignMemory implements ForeignMemory {
  readonly #name: string;
  readonly #library: ForeignMemoryLibrary;
  readonly #mappings = new Set<ForeignMapping>();
  #closed = false;

  constructor(directory: string, library: string) {
    this.#name = library;
    // The library would write to standard error about a device that is not there.
    openDevice(directory, 'privcmd').close();
    const { ForeignMemory } = loadAddon();
    this.#library = new ForeignMemory(library);
    if (this.#library.error) throw libraryError(library, this.#library.error);
    if (this.#library.errno) throw errnoError(-this.#library.errno, 'foreignmem.open', library);
  }

  map(domid: number, frames: ArrayLike<number>, { writable }: { writable: boolean }): ForeignMapping {
    const op = 'foreignmem.map';
    if (this.#closed) throw new XenSysError('ERR_CLOSED', op, `${op}: closed`, { path: this.#name });
    const errors = new Int32Array(frames.length);
    const buffer = this.#library.map(domid, writable, Float64Array.from(frames), errors);
    if (typeof buffer === 'number') throw errnoError(buffer, op, this.#name, `domain ${domid}`);
    if (errors.every((error) => error < 0)) {
      this.#library.unmap(buffer);
      throw errnoError(errors[0], op, this.#name, `domain ${domid}`);
    }
    const mapping = { buffer, offsets: pageOffsets(frames.length), contiguous: true, errors };
    this.#mappings.add(mapping);
    return mapping;
  }

  unmap(mapping: ForeignMapping): void {
    if (this.#mappings.delete(mapping)) this.#library.unmap(mapping.buffer);
  }

  close(): void {
    for (const mapping of [...this.#mappings]) this.unmap(mapping);
    this.#library.close();
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

function libraryError(library: string, reason: string): XenSysError {
  const tooOld = reason.includes('undefined symbol');
  const message = `${library} is ${tooOld ? 'too old' : 'missing'} (on Debian: package ${PACKAGE}): ${reason}`;
  return new XenSysError('ERR_NO_LIBRARY', 'foreignmem.open', message, { path: library });
}
