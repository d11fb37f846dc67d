import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  copyFlags,
  copyLength,
  GRANT_COPY_SEGMENT_BYTES,
  GrantCopyBatch,
  GrantCopyFlag,
  GrantCopyWord,
  GrantStatus,
  grantDomid,
  grantOffset,
  grantRef,
  localHigh,
  localLow,
  setCopyStatus,
} from './grant-copy.js';

const address = fc.maxSafeInteger().map(Math.abs);
const domid = fc.integer({ min: 0, max: 0x7ff0 });
const ref = fc.integer({ min: 0, max: 0xffff_ffff });
const offset = fc.integer({ min: 0, max: 4095 });
const length = fc.integer({ min: 0, max: 4096 });

describe('GrantCopyBatch', () => {
  it('lays segments out as struct gntdev_grant_copy_segment', () => {
    fc.assert(
      fc.property(domid, ref, offset, address, length, (domid, ref, offset, address, length) => {
        const batch = new GrantCopyBatch(2);
        batch.fromGrant(domid, ref, offset, address, length);
        batch.toGrant(domid, ref, offset, address, length);
        expect(batch.count).toBe(2);
        const from = new DataView(batch.words.buffer, 0, GRANT_COPY_SEGMENT_BYTES);
        const to = new DataView(batch.words.buffer, GRANT_COPY_SEGMENT_BYTES, GRANT_COPY_SEGMENT_BYTES);
        expect(grantAt(from, 0)).toEqual([ref, offset, domid]);
        expect(from.getBigUint64(8, true)).toBe(BigInt(address));
        expect([from.getUint16(16, true), from.getUint16(18, true)]).toEqual([length, 1]);
        expect(to.getBigUint64(0, true)).toBe(BigInt(address));
        expect(grantAt(to, 8)).toEqual([ref, offset, domid]);
        expect([to.getUint16(16, true), to.getUint16(18, true)]).toEqual([length, 2]);
      }),
    );
  });

  it('gives back what a segment was filled with', () => {
    fc.assert(
      fc.property(domid, ref, offset, address, length, (domid, ref, offset, address, length) => {
        const batch = new GrantCopyBatch(2);
        batch.fromGrant(domid, ref, offset, address, length);
        batch.toGrant(domid, ref, offset, address, length);
        const { words } = batch;
        const { source, dest, segment } = GrantCopyWord;
        for (const [index, grant, local, flag] of [
          [0, source, dest, GrantCopyFlag.sourceIsGrant],
          [1, segment + dest, segment + source, GrantCopyFlag.destIsGrant],
        ] as const) {
          expect([copyFlags(words, segment * index), copyLength(words, segment * index)]).toEqual([flag, length]);
          expect([grantDomid(words, grant), grantRef(words, grant)]).toEqual([domid, ref]);
          expect(grantOffset(words, grant)).toBe(offset);
          expect(localLow(words, local) + localHigh(words, local) * 2 ** 32).toBe(address);
          setCopyStatus(words, segment * index, GrantStatus.badPage);
          expect([batch.status(index), copyLength(words, segment * index)]).toEqual([GrantStatus.badPage, length]);
        }
      }),
    );
  });

  it('counts local places from its base', () => {
    const base = fc.integer({ min: 0, max: 2 ** 47 });
    const place = fc.integer({ min: 0, max: 2 ** 40 });
    fc.assert(
      fc.property(base, fc.oneof(place, fc.nat()), (base, place) => {
        const batch = new GrantCopyBatch(2, base);
        batch.fromGrant(1, 2, 3, place, 5);
        batch.toGrant(1, 2, 3, place, 5);
        const view = new DataView(batch.words.buffer);
        expect(view.getBigUint64(8, true)).toBe(BigInt(base + place));
        expect(view.getBigUint64(GRANT_COPY_SEGMENT_BYTES, true)).toBe(BigInt(base + place));
      }),
    );
  });

  it('gives the status that was written, negative ones too, and forgets it with the next use', () => {
    const batch = new GrantCopyBatch(2);
    batch.fromGrant(1, 2, 3, 4, 5);
    batch.fromGrant(1, 2, 3, 4, 5);
    new DataView(batch.words.buffer).setInt16(GRANT_COPY_SEGMENT_BYTES + 20, GrantStatus.badGntref, true);
    expect([batch.status(0), batch.status(1)]).toEqual([GrantStatus.okay, GrantStatus.badGntref]);
    batch.clear();
    batch.toGrant(1, 2, 3, 4, 5);
    batch.toGrant(1, 2, 3, 4, 5);
    expect(batch.status(1)).toBe(GrantStatus.okay);
  });
});

function grantAt(view: DataView, at: number): [number, number, number] {
  return [view.getUint32(at, true), view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
}
