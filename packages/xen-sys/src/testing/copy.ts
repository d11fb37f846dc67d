import { strict as assert } from 'node:assert';
import { GrantCopyBatch, GrantStatus } from '../grant-copy.js';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import { NO_GRANT, NOBODY, pageOf, type SuiteTests } from './session.js';

/** A local buffer of `pages` pages, filled with `fill`, and its address. */
function localPages(table: { register(buffer: ArrayBufferLike): number }, pages: number, fill = 0) {
  const buffer = new ArrayBuffer(pages * XEN_PAGE_SIZE);
  const bytes = new Uint8Array(buffer).fill(fill);
  return { buffer, bytes, address: table.register(buffer) };
}

export const copyTests: SuiteTests = {
  'whole pages and parts of pages, both ways': async (session) => {
    const { table, pages, domid } = session.granted(2);
    const foreign = pages.refs.length === 2 ? [0, 1].map((i) => pageOf(pages, i)) : [];
    for (let i = 0; i < XEN_PAGE_SIZE; i++) foreign[0][i] = i & 0xff;
    const { bytes, address } = localPages(table, 3);
    const batch = new GrantCopyBatch(8);
    batch.fromGrant(domid, pages.refs[0], 0, address, XEN_PAGE_SIZE);
    batch.fromGrant(domid, pages.refs[0], 512, address + 5000, 1536);
    batch.fromGrant(domid, pages.refs[0], 3, address + 8001, 5);
    assert.equal(table.copy(batch), 0);
    for (let i = 0; i < 3; i++) assert.equal(batch.status(i), GrantStatus.okay);
    assert.deepEqual(bytes.subarray(0, XEN_PAGE_SIZE), foreign[0].slice());
    assert.deepEqual(bytes.subarray(5000, 6536), foreign[0].slice(512, 2048));
    assert.deepEqual([...bytes.subarray(8000, 8007)], [0, 3, 4, 5, 6, 7, 0]);

    batch.clear();
    batch.toGrant(domid, pages.refs[1], 0, address, XEN_PAGE_SIZE);
    batch.toGrant(domid, pages.refs[0], 4095, address + 8001, 1);
    assert.equal(table.copy(batch), 0);
    assert.deepEqual(foreign[1].slice(), bytes.slice(0, XEN_PAGE_SIZE));
    assert.equal(foreign[0][4095], 3);
  },

  'each segment has a status of its own': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1, false);
    const others = allocator.allocate(NOBODY, 1, { writable: true });
    const { bytes, address } = localPages(table, 1, 1);
    const batch = new GrantCopyBatch(8);
    batch.fromGrant(domid, pages.refs[0], 0, address, 512);
    batch.fromGrant(domid, NO_GRANT, 0, address, 512);
    batch.fromGrant(domid, others.refs[0], 0, address, 512);
    batch.toGrant(domid, pages.refs[0], 0, address, 512);
    batch.fromGrant(NOBODY, pages.refs[0], 0, address, 512);
    batch.fromGrant(domid, pages.refs[0], 512, address + 512, 512);
    assert.equal(table.copy(batch), 0);
    assert.equal(batch.status(0), GrantStatus.okay);
    for (let i = 1; i < 5; i++) assert.ok(batch.status(i) < 0, `segment ${i}: ${batch.status(i)}`);
    assert.equal(batch.status(5), GrantStatus.okay);
    assert.ok(bytes.subarray(0, 1024).every((byte) => byte === 0));
    assert.equal(bytes[1024], 1);
    assert.equal(pageOf(pages, 0)[0], 0);
  },

  'a batch is used again after clear': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const { bytes, address } = localPages(table, 1);
    const batch = new GrantCopyBatch(1);
    for (let value = 1; value < 4; value++) {
      pageOf(pages, 0).fill(value);
      batch.clear();
      batch.fromGrant(domid, pages.refs[0], 0, address, XEN_PAGE_SIZE);
      assert.equal(table.copy(batch), 0);
      assert.ok(bytes.every((byte) => byte === value));
    }
  },

  'a segment past the end of the foreign page refuses the batch': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const { address } = localPages(table, 1);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(domid, pages.refs[0], 4000, address, 512);
    assert.ok(table.copy(batch) < 0 || batch.status(0) < 0);
  },

  'a local address that is nobody’s refuses the batch': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const batch = new GrantCopyBatch(1);
    batch.fromGrant(domid, pages.refs[0], 0, 0, 512);
    assert.ok(table.copy(batch) < 0 || batch.status(0) < 0);
  },

  'a buffer keeps its address while it is registered': async (session) => {
    const { table } = session.granted(1);
    const { buffer, address } = localPages(table, 1);
    assert.equal(table.register(buffer), address);
    table.unregister(buffer);
    table.unregister(buffer);
  },

  'shared memory is a local side too': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const buffer = new SharedArrayBuffer(2 * XEN_PAGE_SIZE);
    const batch = new GrantCopyBatch(1);
    pageOf(pages, 0).fill(6);
    batch.fromGrant(domid, pages.refs[0], 0, table.register(buffer) + XEN_PAGE_SIZE, XEN_PAGE_SIZE);
    assert.equal(table.copy(batch), 0);
    assert.equal(batch.status(0), GrantStatus.okay);
    const bytes = new Uint8Array(buffer);
    assert.deepEqual([bytes[XEN_PAGE_SIZE - 1], bytes[XEN_PAGE_SIZE], bytes[2 * XEN_PAGE_SIZE - 1]], [0, 6, 6]);
  },
};
