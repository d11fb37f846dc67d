import { DOMID_SELF, type GrantAllocator, type GrantedPages, XEN_PAGE_SIZE, XenSysError } from '@xenpv/xen-sys';
import type { Machine, MachineDomain } from '../machine/machine.js';
import { closed } from './closed.js';

/** One handle on the granting side of an emulated domain. */
export class EmulatedGrantAllocator implements GrantAllocator {
  readonly #machine: Machine;
  readonly #domain: MachineDomain;
  readonly #granted = new Set<GrantedPages>();
  #closed = false;

  constructor(machine: Machine, domain: MachineDomain) {
    this.#machine = machine;
    this.#domain = domain;
  }

  allocate(domid: number, count: number, options: { writable: boolean }): GrantedPages {
    if (this.#closed) throw closed('gntalloc.allocate');
    const { memory } = this.#domain;
    if (!memory.alive) throw new XenSysError('ESRCH', 'gntalloc.allocate', 'this domain was destroyed');
    if (!(domid >= 0 && domid <= DOMID_SELF))
      throw new XenSysError('EINVAL', 'gntalloc.allocate', `${domid} is not a domid`);
    const user = domid === DOMID_SELF ? memory.domid : domid;
    const refs = new Uint32Array(count);
    const first = count === 0 ? 0 : this.#machine.grantNew(this.#domain, user, refs, options);
    if (first === -2) throw new XenSysError('ENOSPC', 'gntalloc.allocate', `no ${count} grant references are free`);
    if (first < 0) throw new XenSysError('ENOMEM', 'gntalloc.allocate', `no ${count} pages in a row are free`);
    const pages: GrantedPages = {
      domid,
      refs,
      writable: options.writable,
      buffer: memory.ram,
      offsets: Float64Array.from(refs, (_, index) => (first + index) * XEN_PAGE_SIZE),
      contiguous: true,
    };
    this.#granted.add(pages);
    return pages;
  }

  release(pages: GrantedPages): void {
    if (!this.#granted.delete(pages) || !this.#domain.memory.alive) return;
    this.#machine.endGrants(this.#domain, pages.refs);
  }

  close(): void {
    if (this.#closed) return;
    for (const pages of this.#granted) this.release(pages);
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
