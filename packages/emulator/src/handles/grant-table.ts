import {
  Errno,
  GRANT_COPY_SEGMENT_BYTES,
  type GrantCopyBatch,
  type GrantMapping,
  GrantStatus,
  type GrantTable,
  XEN_PAGE_SIZE,
  XenSysError,
} from '@xenpv/xen-sys';
import { DOMID_SELF, type Machine, type MachineDomain } from '../machine/machine.js';
import type { PageViews } from '../machine/page-views.js';
import { closed } from './closed.js';
import { EmulatedMapping } from './grant-mapping.js';
import { LocalBuffers } from './local-buffers.js';

const SEGMENT_WORDS = GRANT_COPY_SEGMENT_BYTES / 4;
const SOURCE_IS_GRANT = 1;
const BOTH_ARE_GRANTS = 3;

/** What happened to a segment whose addresses make no sense, for which the kernel refuses the whole batch. */
const BAD_ADDRESS = 1;

/** One handle on the grant table, on one thread. */
export class EmulatedGrantTable implements GrantTable {
  readonly #machine: Machine;
  readonly #domain: MachineDomain;
  readonly #mappings = new Set<EmulatedMapping>();
  readonly #locals = new LocalBuffers();
  /** The domain of the segment before. */
  #last: MachineDomain | undefined;
  #closed = false;

  constructor(machine: Machine, domain: MachineDomain) {
    this.#machine = machine;
    this.#domain = domain;
  }

  map(domid: number, refs: Uint32Array, options: { writable: boolean }): GrantMapping {
    this.#checkOpen('gnttab.map');
    const granter = this.#find(domid);
    if (granter === undefined) throw new XenSysError('EINVAL', 'gnttab.map', `there is no domain ${domid}`);
    const frames = new Uint32Array(refs.length);
    for (let i = 0; i < refs.length; i++) {
      const frame = granter.grants.pin(refs[i], this.#domain.memory.domid, options.writable);
      if (frame < 0) {
        for (let done = 0; done < i; done++) granter.grants.unpin(refs[done]);
        throw this.#mapError(granter, refs[i], options.writable, frame);
      }
      frames[i] = frame;
    }
    const mapping = new EmulatedMapping(granter, refs, frames, options.writable);
    this.#mappings.add(mapping);
    return mapping;
  }

  unmap(mapping: GrantMapping): void {
    if (!(mapping instanceof EmulatedMapping) || !this.#mappings.delete(mapping)) return;
    if (!this.#domain.memory.alive) return;
    for (const ref of mapping.refs) mapping.granter.grants.unpin(ref);
  }

  copy(batch: GrantCopyBatch): number {
    if (this.#closed) return Errno.EINVAL;
    const { words, count } = batch;
    for (let i = 0; i < count; i++) {
      const at = i * SEGMENT_WORDS;
      const length = words[at + 4] & 0xffff;
      const flags = words[at + 4] >>> 16;
      let status: number;
      if (flags === SOURCE_IS_GRANT) {
        status = this.#copyGrant(words[at], words[at + 1], words[at + 2], words[at + 3], length, false);
      } else if (flags === BOTH_ARE_GRANTS) {
        status = this.#copyBetween(words, at, length);
      } else if (flags === 0) {
        return Errno.EINVAL;
      } else {
        status = this.#copyGrant(words[at + 2], words[at + 3], words[at], words[at + 1], length, true);
      }
      if (status === BAD_ADDRESS) return this.#addressError(words, at, length);
      words[at + 5] = status & 0xffff;
    }
    return 0;
  }

  register(buffer: ArrayBufferLike): number {
    this.#checkOpen('gnttab.register');
    return this.#locals.add(buffer);
  }

  unregister(buffer: ArrayBufferLike): void {
    this.#locals.remove(buffer);
  }

  close(): void {
    if (this.#closed) return;
    for (const mapping of this.#mappings) this.unmap(mapping);
    this.#locals.clear();
    this.#closed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** One segment between a grant and a local buffer: a GNTST status, or BAD_ADDRESS. */
  #copyGrant(ref: number, place: number, low: number, high: number, length: number, toGrant: boolean): number {
    const offset = place & 0xffff;
    const local = this.#locals.at(high);
    if (local === undefined || low + length > local.byteLength || offset + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const domid = place >>> 16;
    const last = this.#last;
    const granter = last !== undefined && last.memory.domid === domid && last.memory.alive ? last : this.#switch(domid);
    if (granter === undefined) return GrantStatus.badDomain;
    const frame = granter.grants.pin(ref, this.#domain.memory.domid, toGrant);
    if (frame < 0) return frame;
    copyPage(granter.memory.views, frame * XEN_PAGE_SIZE + offset, local, low, length, toGrant);
    granter.grants.unpin(ref);
    return GrantStatus.okay;
  }

  /** One segment from a grant to a grant, which the hypervisor can do too. */
  #copyBetween(words: Uint32Array, at: number, length: number): number {
    const from = words[at + 1] & 0xffff;
    const to = words[at + 3] & 0xffff;
    if (from + length > XEN_PAGE_SIZE || to + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const source = this.#find(words[at + 1] >>> 16);
    const target = this.#find(words[at + 3] >>> 16);
    if (source === undefined || target === undefined) return GrantStatus.badDomain;
    const domid = this.#domain.memory.domid;
    const sourceFrame = source.grants.pin(words[at], domid, false);
    if (sourceFrame < 0) return sourceFrame;
    const targetFrame = target.grants.pin(words[at + 2], domid, true);
    if (targetFrame >= 0) {
      const start = targetFrame * XEN_PAGE_SIZE + to;
      target.memory.views.copyFrom(source.memory.views, sourceFrame * XEN_PAGE_SIZE + from, start, length);
      target.grants.unpin(words[at + 2]);
    }
    source.grants.unpin(words[at]);
    return targetFrame < 0 ? targetFrame : GrantStatus.okay;
  }

  /** The kernel's answer to a segment that it cannot even pass on. */
  #addressError(words: Uint32Array, at: number, length: number): number {
    const flags = words[at + 4] >>> 16;
    const place = words[flags === SOURCE_IS_GRANT ? at + 1 : at + 3];
    if (flags === BOTH_ARE_GRANTS || (place & 0xffff) + length > XEN_PAGE_SIZE) return Errno.EINVAL;
    return Errno.EFAULT;
  }

  #find(domid: number): MachineDomain | undefined {
    return domid === DOMID_SELF ? this.#domain : this.#machine.find(domid);
  }

  #switch(domid: number): MachineDomain | undefined {
    this.#last = this.#find(domid);
    return this.#last;
  }

  #mapError(granter: MachineDomain, ref: number, writable: boolean, status: number): Error {
    if (writable && granter.grants.isReadOnly(ref, this.#domain.memory.domid)) {
      return new XenSysError('EACCES', 'gnttab.map', `grant ${ref} of domain ${granter.memory.domid} is read-only`);
    }
    const { domid } = granter.memory;
    if (status === GrantStatus.noSpace)
      return new XenSysError('ENOMEM', 'gnttab.map', `grant ${ref} is mapped too often`);
    return new XenSysError(
      'EINVAL',
      'gnttab.map',
      `grant ${ref} of domain ${domid} is not granted to us (GNTST ${status})`,
    );
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw closed(op);
  }
}

function copyPage(ram: PageViews, place: number, local: PageViews, at: number, length: number, toGrant: boolean): void {
  if (toGrant) ram.copyFrom(local, at, place, length);
  else local.copyFrom(ram, place, at, length);
}
