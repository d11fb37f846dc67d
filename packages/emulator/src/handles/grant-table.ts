/**
 * One thread's handle on grants of other domains: what /dev/xen/gntdev is to a process. In come references and batches of
 * copy segments in the kernel's layout, all of which a guest may have chosen. A page is pinned while it is mapped or
 * copied, so that its owner cannot give it out again. A bad reference fails its own segment; only an address or a direction
 * that cannot be refuses the batch. A copy allocates nothing and throws nothing.
 */
import {
  copyFlags,
  copyLength,
  DOMID_SELF,
  Errno,
  type GrantCopyBatch,
  GrantCopyFlag,
  GrantCopyWord,
  type GrantMapping,
  GrantStatus,
  type GrantTable,
  grantDomid,
  grantOffset,
  grantRef,
  setCopyStatus,
  XEN_PAGE_SIZE,
  XenSysError,
} from '@xenpv/xen-sys';
import type { Machine, MachineDomain } from '../machine/machine.js';
import { closed } from './closed.js';
import { EmulatedMapping, frameOffsets } from './grant-mapping.js';
import { LocalBuffers } from './local-buffers.js';
import { strictMapping } from './strict-mapping.js';

const { source, dest, segment, ref, place, addressLow, addressHigh } = GrantCopyWord;
const { sourceIsGrant, destIsGrant } = GrantCopyFlag;
const BOTH_ARE_GRANTS = sourceIsGrant | destIsGrant;

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
    const status = this.#machine.mapGrants(this.#domain, granter, refs, frames, options);
    if (status < 0) throw this.#mapError(granter, frames[0], options, status);
    const mapping = granter.memory.strict
      ? strictMapping(granter, refs, frames, options)
      : new EmulatedMapping(granter, refs, frameOffsets(frames), options);
    this.#mappings.add(mapping);
    return mapping;
  }

  unmap(mapping: GrantMapping): void {
    if (!(mapping instanceof EmulatedMapping) || !this.#mappings.delete(mapping)) return;
    this.#machine.unmapGrants(this.#domain, mapping.granter, mapping.refs);
    mapping.end();
  }

  copy(batch: GrantCopyBatch): number {
    if (this.#closed) return Errno.EINVAL;
    const { words, count } = batch;
    for (let i = 0; i < count; i++) {
      const at = i * segment;
      const flags = copyFlags(words, at);
      const length = copyLength(words, at);
      let status: number;
      if (flags === sourceIsGrant) status = this.#copyGrant(words, at + source, at + dest, length);
      else if (flags === BOTH_ARE_GRANTS) status = this.#copyBetween(words, at + source, at + dest, length);
      else if (flags === 0) return Errno.EINVAL;
      else status = this.#copyGrant(words, at + dest, at + source, length);
      if (status === BAD_ADDRESS) return addressError(words, at);
      setCopyStatus(words, at, status);
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
    this.#closed = true;
    this.#locals.clear();
    let misuse: unknown;
    for (const mapping of this.#mappings) {
      try {
        this.unmap(mapping);
      } catch (error) {
        misuse ??= error;
      }
    }
    if (misuse !== undefined) throw misuse;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** One segment between a side that is a grant and one that is a local buffer: a GNTST status, or BAD_ADDRESS. */
  #copyGrant(words: Uint32Array, grant: number, other: number, length: number): number {
    // Read by hand: with a call for each, the optimizer reaches its limit before it has inlined what matters.
    const where = words[grant + place];
    const offset = where & 0xffff;
    const low = words[other + addressLow];
    const local = this.#locals.at(words[other + addressHigh]);
    if (local === undefined || low + length > local.byteLength || offset + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const domid = where >>> 16;
    const last = this.#last;
    const granter = last !== undefined && last.memory.domid === domid && last.memory.alive ? last : this.#switch(domid);
    if (granter === undefined) return GrantStatus.badDomain;
    const granted = words[grant + ref];
    const toGrant = grant > other;
    const own = this.#domain.memory.domid;
    const frame = toGrant ? granter.grants.pinToWrite(granted, own) : granter.grants.pinToRead(granted, own);
    if (frame < 0) return frame;
    const ram = granter.memory.views;
    const start = frame * XEN_PAGE_SIZE + offset;
    if (toGrant) ram.copyFrom(local, low, start, length);
    else local.copyFrom(ram, start, low, length);
    granter.grants.unpin(granted);
    return GrantStatus.okay;
  }

  /** One segment from a grant to a grant, which the hypervisor can do too. */
  #copyBetween(words: Uint32Array, from: number, to: number, length: number): number {
    if (grantOffset(words, from) + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    if (grantOffset(words, to) + length > XEN_PAGE_SIZE) return BAD_ADDRESS;
    const giver = this.#find(grantDomid(words, from));
    const taker = this.#find(grantDomid(words, to));
    if (giver === undefined || taker === undefined) return GrantStatus.badDomain;
    const domid = this.#domain.memory.domid;
    const givenFrame = giver.grants.pinToRead(grantRef(words, from), domid);
    if (givenFrame < 0) return givenFrame;
    const takenFrame = taker.grants.pinToWrite(grantRef(words, to), domid);
    if (takenFrame >= 0) {
      const start = givenFrame * XEN_PAGE_SIZE + grantOffset(words, from);
      taker.memory.views.copyFrom(
        giver.memory.views,
        start,
        takenFrame * XEN_PAGE_SIZE + grantOffset(words, to),
        length,
      );
      taker.grants.unpin(grantRef(words, to));
    }
    giver.grants.unpin(grantRef(words, from));
    return takenFrame < 0 ? takenFrame : GrantStatus.okay;
  }

  #find(domid: number): MachineDomain | undefined {
    return domid === DOMID_SELF ? this.#domain : this.#machine.find(domid);
  }

  /** As {@link #find}, for a segment of another domain than the one before, which is rare. */
  #switch(domid: number): MachineDomain | undefined {
    this.#last = this.#find(domid);
    return this.#last;
  }

  #mapError(granter: MachineDomain, ref: number, options: { writable: boolean }, status: number): Error {
    if (options.writable && granter.grants.isReadOnly(ref, this.#domain.memory.domid)) {
      return new XenSysError('EACCES', 'gnttab.map', `grant ${ref} of domain ${granter.memory.domid} is read-only`);
    }
    const { domid } = granter.memory;
    if (status === GrantStatus.eagain)
      return new XenSysError('EAGAIN', 'gnttab.map', `grant ${ref} of domain ${domid} is busy`);
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

/** The kernel's answer to a segment that it cannot even pass on. */
function addressError(words: Uint32Array, at: number): number {
  const flags = copyFlags(words, at);
  const offset = grantOffset(words, at + (flags === sourceIsGrant ? source : dest));
  if (flags === BOTH_ARE_GRANTS || offset + copyLength(words, at) > XEN_PAGE_SIZE) return Errno.EINVAL;
  return Errno.EFAULT;
}
