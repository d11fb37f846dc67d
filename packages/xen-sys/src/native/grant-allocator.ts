import type { Descriptor } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { GntallocIoctl, rangeArgument, readIndex } from '../addon/ioctl.js';
import { errnoError, XenSysError } from '../errors.js';
import type { GrantAllocator, GrantedPages } from '../grant-allocator.js';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import { pageOffsets } from './pages.js';

const FLAG_WRITABLE = 1;
const HEADER_WORDS = 4;
/** The kernel reads a structure with at least one reference, rounded up to 8 bytes. */
const LEAST_WORDS = 6;

/** /dev/xen/gntalloc. Its `limit` (1024 pages, a module parameter) is for the whole domain. */
export class NativeGrantAllocator implements GrantAllocator {
  readonly #path: string;
  readonly #device: Descriptor;
  readonly #allocations = new Map<GrantedPages, number>();

  constructor(directory: string) {
    this.#path = `${directory}/gntalloc`;
    this.#device = openDevice(directory, 'gntalloc');
  }

  allocate(domid: number, count: number, { writable }: { writable: boolean }): GrantedPages {
    const words = new Uint32Array(Math.max(LEAST_WORDS, HEADER_WORDS + count));
    words[0] = domid | ((writable ? FLAG_WRITABLE : 0) << 16);
    words[1] = count;
    const result = this.#device.ioctl(GntallocIoctl.allocGref, words);
    if (result < 0) throw this.#error(result, domid, count);
    const index = readIndex(words, 2);
    // Our own view is writable even where the other domain's is not.
    const buffer = this.#device.map(count * XEN_PAGE_SIZE, true, index);
    if (typeof buffer === 'number') {
      this.#free(index, count);
      throw this.#error(buffer, domid, count);
    }
    const refs = words.slice(HEADER_WORDS, HEADER_WORDS + count);
    const pages = { domid, refs, writable, buffer, offsets: pageOffsets(count), contiguous: true };
    this.#allocations.set(pages, index);
    return pages;
  }

  release(pages: GrantedPages): void {
    const index = this.#allocations.get(pages);
    if (index === undefined) return;
    this.#allocations.delete(pages);
    this.#device.unmap(pages.buffer);
    this.#free(index, pages.refs.length);
  }

  close(): void {
    for (const pages of [...this.#allocations.keys()]) this.release(pages);
    this.#device.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #free(index: number, count: number): void {
    this.#device.ioctl(GntallocIoctl.deallocGref, rangeArgument(index, count));
  }

  #error(result: number, domid: number, count: number): XenSysError {
    const op = 'gntalloc.allocate';
    if (this.#device.fd < 0) return new XenSysError('ERR_CLOSED', op, `${op}: closed`, { path: this.#path });
    return errnoError(result, op, this.#path, `${count} pages for domain ${domid}`);
  }
}
