import { strict as assert } from 'node:assert';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import { code, pageOf, type SuiteTests } from './session.js';

export const allocationTests: SuiteTests = {
  'pages are zero, in a row, and granted by references of their own': async (session) => {
    const { allocator, pages } = session.granted(5);
    assert.ok(pages.contiguous);
    assert.equal(new Set(pages.refs).size, 5);
    for (let i = 0; i < 5; i++) {
      assert.equal(pages.offsets[i], pages.offsets[0] + i * XEN_PAGE_SIZE);
      assert.ok(pageOf(pages, i).every((byte) => byte === 0));
      pageOf(pages, i).fill(0xff);
    }
    allocator.release(pages);
    const again = allocator.allocate(session.backend.domid, 5, { writable: true });
    for (let i = 0; i < 5; i++) assert.ok(pageOf(again, i).every((byte) => byte === 0));
  },

  'a released grant is no longer good': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1);
    allocator.release(pages);
    allocator.release(pages);
    assert.throws(() => table.map(domid, pages.refs, { writable: false }), code('EINVAL'));
  },

  'closing releases, and then nothing works': async (session) => {
    const { allocator, table, pages, domid } = session.granted(2);
    allocator.close();
    allocator.close();
    assert.throws(() => table.map(domid, pages.refs, { writable: false }), code('EINVAL'));
    assert.throws(() => allocator.allocate(domid, 1, { writable: true }), code('ERR_CLOSED'));
  },
};
