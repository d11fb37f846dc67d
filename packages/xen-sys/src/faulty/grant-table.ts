import { constants } from 'node:os';
import { XenSysError } from '../errors.js';
import {
  copyFlags,
  type GrantCopyBatch,
  GrantCopyFlag,
  GrantCopyWord,
  grantDomid,
  grantRef,
  setCopyStatus,
} from '../grant-copy.js';
import type { GrantMapping, GrantTable } from '../grant-table.js';
import type { Faults } from './faults.js';

/** A segment that is not copied: where it is, how long it was, and what is said of it. */
interface Spoilt {
  readonly at: number;
  readonly length: number;
  readonly status: number;
}

const LENGTH = 0xffff;

/** A grant table whose maps, batches and single segments may fail. */
export class FaultyGrantTable implements GrantTable {
  readonly #inner: GrantTable;
  readonly #faults: Faults;

  constructor(inner: GrantTable, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
  }

  map(domid: number, refs: Uint32Array, options: { writable: boolean }): GrantMapping {
    if (refs.length > 1 && this.#faults.lacks('mapMultiple')) {
      const message = `${refs.length} pages at once; this provider maps one, as its plan of faults says`;
      throw new XenSysError('EINVAL', 'gnttab.map', message);
    }
    this.#faults.check('map', 'gnttab.map', { domid, refs, writable: options.writable });
    return this.#inner.map(domid, refs, options);
  }

  unmap(mapping: GrantMapping): void {
    this.#inner.unmap(mapping);
  }

  copy(batch: GrantCopyBatch): number {
    if (this.#faults.lacks('grantCopy')) return -constants.errno.ENOSYS;
    const fault = this.#faults.next('copy', { segments: batch.count });
    if (fault !== undefined) return -constants.errno[fault.error];
    const spoilt = this.#spoil(batch);
    const result = this.#inner.copy(batch);
    for (const { at, length, status } of spoilt) {
      batch.words[at + GrantCopyWord.length] |= length;
      if (result === 0) setCopyStatus(batch.words, at, status);
    }
    return result;
  }

  register(buffer: ArrayBufferLike): number {
    return this.#inner.register(buffer);
  }

  unregister(buffer: ArrayBufferLike): void {
    this.#inner.unregister(buffer);
  }

  close(): void {
    this.#inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** A segment that shall fail goes out with nothing to copy, so that it is a batch of the same segments for the kernel. */
  #spoil({ words, count }: GrantCopyBatch): Spoilt[] {
    const spoilt: Spoilt[] = [];
    for (let i = 0; i < count; i++) {
      const at = i * GrantCopyWord.segment;
      const toGrant = (copyFlags(words, at) & GrantCopyFlag.destIsGrant) !== 0;
      const side = at + (toGrant ? GrantCopyWord.dest : GrantCopyWord.source);
      const about = { domid: grantDomid(words, side), ref: grantRef(words, side), toGrant };
      const fault = this.#faults.next('copySegment', about);
      if (fault === undefined) continue;
      spoilt.push({ at, length: words[at + GrantCopyWord.length] & LENGTH, status: fault.status });
      words[at + GrantCopyWord.length] &= ~LENGTH;
    }
    return spoilt;
  }
}
