/**
 * One thread's handle on grants of other domains: what /dev/xen/gntdev is to a process. In come references and batches of
 * copy segments in the kernel's layout, all of which a guest may have chosen. A page is pinned while it is mapped or
 * copied, so that its owner cannot give it out again. A bad reference fails its own segment; only an address or a direction
 * that cannot be refuses the batch. A copy allocates nothing and throws nothing.
 */
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
      const frame = options.writable
        ? granter.grants.pinToWrite(refs[i], this.#domain.memory.domid)
        : granter.grants.pinToRead(refs[i], this.#domain.memory.domid);
      if (frame < 0) {
        for (let done = 0; done < i; done++) granter.grants.unpin(refs[done]);
        throw this.#mapError(granter, refs[i], options, frame);
      }
      frames[i] = frame;
    }
    const mapping = new EmulatedMapping(granter, refs, frames, options);
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
        status = this.#copyFromGrant(words, at, length);
      } else if (flags === BOTH_ARE_GRANTS) {
        status = this.#copyBetween(words, at, length);
      } else if (flags === 0) {
        return Errno.EINVAL;
      } else {
        status = this.#copyToGrant(words, at, length);
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

  /** One segment from a grant to a local buffer: a GNTST status, or BAD_ADDRESS. */
  #copyFromGrant(words: Uint32Array, at: number, length: number): number {
    const offset = words[at + 1] & 0xffff;
    const low = words[at + 2];
    const local = this.#locals.at(words[at + 3]);
    if (local === undefined || low + length > local.byteLength || offset + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const granter = this.#granter(words[at + 1] >>> 16);
    if (granter === undefined) return GrantStatus.badDomain;
    const frame = granter.grants.pinToRead(words[at], this.#domain.memory.domid);
    if (frame < 0) return frame;
    local.copyFrom(granter.memory.views, frame * XEN_PAGE_SIZE + offset, low, length);
    granter.grants.unpin(words[at]);
    return GrantStatus.okay;
  }

  /** One segment from a local buffer to a grant: a GNTST status, or BAD_ADDRESS. */
  #copyToGrant(words: Uint32Array, at: number, length: number): number {
    const offset = words[at + 3] & 0xffff;
    const low = words[at];
    const local = this.#locals.at(words[at + 1]);
    if (local === undefined || low + length > local.byteLength || offset + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const granter = this.#granter(words[at + 3] >>> 16);
    if (granter === undefined) return GrantStatus.badDomain;
    const frame = granter.grants.pinToWrite(words[at + 2], this.#domain.memory.domid);
    if (frame < 0) return frame;
    granter.memory.views.copyFrom(local, low, frame * XEN_PAGE_SIZE + offset, length);
    granter.grants.unpin(words[at + 2]);
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
    const sourceFrame = source.grants.pinToRead(words[at], domid);
    if (sourceFrame < 0) return sourceFrame;
    const targetFrame = target.grants.pinToWrite(words[at + 2], domid);
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

  /** As {@link #find}, for segments: one after the other mostly has the same domain. */
  #granter(domid: number): MachineDomain | undefined {
    const last = this.#last;
    if (last !== undefined && last.memory.domid === domid && last.memory.alive) return last;
    this.#last = this.#find(domid);
    return this.#last;
  }

  #mapError(granter: MachineDomain, ref: number, options: { writable: boolean }, status: number): Error {
    if (options.writable && granter.grants.isReadOnly(ref, this.#domain.memory.domid)) {
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
