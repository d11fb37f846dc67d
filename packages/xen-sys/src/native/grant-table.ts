import { type Descriptor, loadAddon } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { copyArgument, GntdevIoctl, rangeArgument, readIndex } from '../addon/ioctl.js';
import { Errno } from '../errno.js';
import { errnoError, XenSysError } from '../errors.js';
import type { GrantCopyBatch } from '../grant-copy.js';
import { type GrantMapping, type GrantTable, XEN_PAGE_SIZE } from '../grant-table.js';
import { NativeMapping } from './mapping.js';

/** Words before the references in the argument of mapGrantRef. */
const HEADER_WORDS = 4;

/** The system call for one batch. */
class BoundCopy {
  readonly #argument: Uint32Array;
  readonly #call: () => number;

  constructor(device: Descriptor, batch: GrantCopyBatch) {
    this.#argument = copyArgument(loadAddon().addressOf(batch.words));
    this.#call = device.bindIoctl(GntdevIoctl.grantCopy, this.#argument);
  }

  run(count: number): number {
    this.#argument[0] = count;
    return this.#call();
  }
}

/** /dev/xen/gntdev. */
export class NativeGrantTable implements GrantTable {
  readonly #path: string;
  readonly #device: Descriptor;
  /** Every mapping with its index, held here so that no memory in use is collected. */
  readonly #mappings = new Map<NativeMapping, number>();
  /** What a batch was bound to when it was first carried out: binding costs more than the call. */
  readonly #copies = new WeakMap<GrantCopyBatch, BoundCopy>();
  readonly #registered = new Map<ArrayBufferLike, number>();

  constructor(directory: string) {
    this.#path = `${directory}/gntdev`;
    this.#device = openDevice(directory, 'gntdev');
  }

  /** Whether the kernel has GRANT_COPY (Linux 4.8 and later): a batch of none succeeds. */
  static canCopy(directory: string): boolean {
    const device = openDevice(directory, 'gntdev');
    const result = device.ioctl(GntdevIoctl.grantCopy, copyArgument(0));
    device.close();
    return result === 0;
  }

  map(domid: number, refs: Uint32Array, options: { writable: boolean }): GrantMapping {
    const result = this.#map(domid, refs, options.writable);
    if (typeof result !== 'number') return result;
    if (this.#device.fd < 0) throw this.#closed('map');
    const refused = options.writable && this.#canRead(domid, refs) ? Errno.EACCES : result;
    throw errnoError(refused, 'gnttab.map', this.#path, `${refs.length} of domain ${domid}`);
  }

  unmap(mapping: GrantMapping): void {
    if (!(mapping instanceof NativeMapping)) return;
    const index = this.#mappings.get(mapping);
    if (index === undefined) return;
    this.#mappings.delete(mapping);
    mapping.unmapped = true;
    this.#device.unmap(mapping.buffer);
    this.#release(index, mapping.refs.length);
  }

  copy(batch: GrantCopyBatch): number {
    let bound = this.#copies.get(batch);
    if (bound === undefined) {
      bound = new BoundCopy(this.#device, batch);
      this.#copies.set(batch, bound);
    }
    return bound.run(batch.count);
  }

  register(buffer: ArrayBufferLike): number {
    let address = this.#registered.get(buffer);
    if (address === undefined) {
      address = loadAddon().addressOf(new Uint8Array(buffer));
      this.#registered.set(buffer, address);
    }
    return address;
  }

  unregister(buffer: ArrayBufferLike): void {
    this.#registered.delete(buffer);
  }

  close(): void {
    for (const mapping of [...this.#mappings.keys()]) this.unmap(mapping);
    this.#registered.clear();
    this.#device.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** The mapping, or a negative errno. The kernel gives way to any signal, and then wants all to be done again. */
  #map(domid: number, refs: Uint32Array, writable: boolean): GrantMapping | number {
    for (;;) {
      const result = this.#tryToMap(domid, refs, writable);
      if (result !== Errno.EINTR) return result;
    }
  }

  #tryToMap(domid: number, refs: Uint32Array, writable: boolean): GrantMapping | number {
    const words = new Uint32Array(HEADER_WORDS + 2 * refs.length);
    words[0] = refs.length;
    for (let i = 0; i < refs.length; i++) {
      words[HEADER_WORDS + 2 * i] = domid;
      words[HEADER_WORDS + 2 * i + 1] = refs[i];
    }
    const result = this.#device.ioctl(GntdevIoctl.mapGrantRef, words);
    if (result < 0) return result;
    const index = readIndex(words, 2);
    const buffer = this.#device.map(refs.length * XEN_PAGE_SIZE, writable, index);
    if (typeof buffer === 'number') {
      this.#release(index, refs.length);
      return buffer;
    }
    const mapping = new NativeMapping(domid, refs, writable, buffer);
    this.#mappings.set(mapping, index);
    return mapping;
  }

  /** The kernel says EINVAL of whatever the hypervisor refused, also of a writable mapping of a read-only grant. */
  #canRead(domid: number, refs: Uint32Array): boolean {
    const mapping = this.#map(domid, refs, false);
    if (typeof mapping === 'number') return false;
    this.unmap(mapping);
    return true;
  }

  #release(index: number, count: number): void {
    this.#device.ioctl(GntdevIoctl.unmapGrantRef, rangeArgument(index, count));
  }

  #closed(op: string): XenSysError {
    return new XenSysError('ERR_CLOSED', `gnttab.${op}`, `gnttab.${op}: closed`, { path: this.#path });
  }
}
