import { strict as assert } from 'node:assert';
import { XEN_PAGE_SIZE } from '../grant-table.js';
import { code, NO_GRANT, NOBODY, pageOf, type SuiteTests } from './session.js';

export const mapTests: SuiteTests = {
  'both sides see the same page': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const ours = new Uint8Array(pages.buffer, pages.offsets[0], XEN_PAGE_SIZE);
    ours.set([1, 2, 3]);
    const mapping = table.map(domid, pages.refs, { writable: true });
    const theirs = new Uint8Array(mapping.buffer, mapping.offsets[0], XEN_PAGE_SIZE);
    assert.deepEqual([...theirs.subarray(0, 4)], [1, 2, 3, 0]);
    theirs[XEN_PAGE_SIZE - 1] = 9;
    assert.equal(ours[XEN_PAGE_SIZE - 1], 9);
    table.unmap(mapping);
    table.unmap(mapping);
  },

  'several pages are mapped in the order of their references': async (session) => {
    const { table, pages, domid } = session.granted(4);
    const { mapMultiple } = session.backend.provider.features;
    for (let i = 0; i < 4; i++) pageOf(pages, i)[0] = i;
    const refs = Uint32Array.from([2, 0, 3, 1], (i) => pages.refs[i]);
    // Without that feature one after the other is what a provider can do.
    const calls = mapMultiple ? [refs] : Array.from(refs, (ref) => Uint32Array.of(ref));
    const mappings = calls.map((some) => table.map(domid, some, { writable: false }));
    const bytes = mappings.flatMap((mapping) => Array.from(mapping.offsets, (_, i) => pageOf(mapping, i)[0]));
    assert.deepEqual(bytes, [2, 0, 3, 1]);
    for (const mapping of mappings) table.unmap(mapping);
    const straight = table.map(domid, mapMultiple ? pages.refs : pages.refs.subarray(0, 1), { writable: false });
    assert.ok(straight.contiguous);
    table.unmap(straight);
  },

  'a page is seen alone, until it is unmapped': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const mapping = table.map(domid, pages.refs, { writable: true });
    const page = mapping.page(0);
    assert.equal(page.byteLength, XEN_PAGE_SIZE);
    page[XEN_PAGE_SIZE - 1] = 5;
    assert.equal(pageOf(pages, 0)[XEN_PAGE_SIZE - 1], 5);
    for (const index of [-1, 1, 0.5]) assert.throws(() => mapping.page(index), code('EINVAL'));
    table.unmap(mapping);
    assert.throws(() => mapping.page(0), code('ERR_CLOSED'));
  },

  'a read-only grant is mapped to read only': async (session) => {
    const { table, pages, domid } = session.granted(1, false);
    assert.throws(() => table.map(domid, pages.refs, { writable: true }), code('EACCES', 'EINVAL'));
    table.unmap(table.map(domid, pages.refs, { writable: false }));
  },

  'a reference that is not granted, or not to us, is refused': async (session) => {
    const { allocator, table, domid } = session.granted(1);
    assert.throws(() => table.map(domid, Uint32Array.of(NO_GRANT), { writable: false }), code('EINVAL'));
    const others = allocator.allocate(NOBODY, 1, { writable: true });
    assert.throws(() => table.map(domid, others.refs, { writable: false }), code('EINVAL'));
    assert.throws(() => table.map(NOBODY, others.refs, { writable: false }), code('EINVAL'));
  },

  'all references are mapped or none': async (session) => {
    const { allocator, table, pages, domid } = session.granted(2);
    const refs = Uint32Array.of(pages.refs[0], NO_GRANT, pages.refs[1]);
    assert.throws(() => table.map(domid, refs, { writable: true }), code('EINVAL'));
    allocator.release(pages);
  },

  'a page is mapped several times, and each is unmapped alone': async (session) => {
    const { table, pages, domid } = session.granted(1);
    const first = table.map(domid, pages.refs, { writable: true });
    const second = table.map(domid, pages.refs, { writable: false });
    table.unmap(first);
    new Uint8Array(pages.buffer, pages.offsets[0], 1)[0] = 5;
    assert.equal(new Uint8Array(second.buffer, second.offsets[0], 1)[0], 5);
    table.unmap(second);
  },

  'a page released while it is mapped stays until it is unmapped': async (session) => {
    const { allocator, table, pages, domid } = session.granted(1);
    new Uint8Array(pages.buffer, pages.offsets[0], 1)[0] = 7;
    const mapping = table.map(domid, pages.refs, { writable: true });
    allocator.release(pages);
    const next = allocator.allocate(session.backend.domid, 1, { writable: true });
    new Uint8Array(next.buffer, next.offsets[0], 1)[0] = 8;
    assert.equal(new Uint8Array(mapping.buffer, mapping.offsets[0], 1)[0], 7);
    table.unmap(mapping);
  },

  'closing unmaps, and then nothing works': async (session) => {
    const { table, pages, domid } = session.granted(1);
    table.map(domid, pages.refs, { writable: true });
    table.close();
    table.close();
    assert.throws(() => table.map(domid, pages.refs, { writable: true }), code('ERR_CLOSED'));
  },
};
