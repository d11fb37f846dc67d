import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { describe, expect, it } from 'vitest';
import { EmulatedHost } from './host.js';

/** A strict host, and pages of a guest that domain 0 may map. */
async function scene(count = 1) {
  const host = await EmulatedHost.create({ strict: true });
  const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const allocator = guest.provider.openGrantAllocator();
  const pages = allocator.allocate(0, count, { writable: true });
  const table = host.provider().openGrantTable();
  const map = (writable: boolean) => table.map(guest.domid, pages.refs, { writable });
  const theirs = (index = 0) => new Uint8Array(pages.buffer, pages.offsets[index], XEN_PAGE_SIZE);
  return { host, guest, allocator, pages, table, map, theirs };
}

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'EFAULT', message: expect.stringMatching(message) });

describe('a mapping to be read only', () => {
  it('shows what the guest writes, whenever a page is asked for', async () => {
    const { host, map, theirs } = await scene(2);
    const mapping = map(false);
    for (const value of [1, 2]) {
      theirs(1)[5] = value;
      expect(mapping.page(1)[5]).toBe(value);
      expect(new Uint8Array(mapping.buffer)[XEN_PAGE_SIZE + 5]).toBe(value);
    }
    await host.close();
  });

  it('that was written to is an error when it is unmapped, which it is all the same', async () => {
    const { host, guest, table, map, pages, theirs } = await scene(2);
    const mapping = map(false);
    const page = mapping.page(1);
    page[7] = 1;
    expect(() => table.unmap(mapping)).toThrow(
      refusal(new RegExp(`byte 7 of grant ${pages.refs[1]} of domain 1 .*writable: true`)),
    );
    expect(guest.usage().mapped).toBe(0);
    expect(theirs(1)[7]).toBe(0);
    expect(page.length).toBe(0);
    table.unmap(mapping);
    await host.close();
  });

  it('that was written to is an error when the next page is asked for, once', async () => {
    const { host, table, map } = await scene();
    const mapping = map(false);
    mapping.page(0)[0] = 1;
    expect(() => mapping.page(0)).toThrow(refusal(/byte 0 of grant/));
    expect(mapping.page(0)[0]).toBe(0);
    table.close();
    await host.close();
  });

  it('that was written to is an error when the handle is closed, which unmaps all', async () => {
    const { host, guest, table, map } = await scene();
    map(false).page(0)[0] = 1;
    map(true);
    expect(() => table.close()).toThrow(refusal(/byte 0/));
    expect(guest.usage().mapped).toBe(0);
    table.close();
    await host.close();
  });
});

describe('a page of a strict host', () => {
  it('cannot be reached through its mapping any more once it is unmapped', async () => {
    const { host, table, map } = await scene();
    for (const writable of [true, false]) {
      const mapping = map(writable);
      table.unmap(mapping);
      expect(mapping.buffer.byteLength).toBe(0);
      expect(() => mapping.page(0)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    }
    await host.close();
  });

  it('that is written to when it belongs to nobody makes the close of the host fail', async () => {
    const { host, guest, table, allocator, pages, map } = await scene();
    const mapping = map(true);
    const page = mapping.page(0);
    page.fill(1);
    table.unmap(mapping);
    allocator.release(pages);
    expect(host.misuses()).toEqual([]);
    page[9] = 1;
    const misuse = { domid: guest.domid, frame: pages.offsets[0] / XEN_PAGE_SIZE, offset: 9, count: 1 };
    expect(host.misuses()).toEqual([misuse]);
    expect(host.misuses()).toEqual([misuse]);
    await expect(host.close()).rejects.toThrow(refusal(/frame \d+ of domain 1 from byte 9 on$/));
    expect(host.usage(0)).toEqual({ grants: 0, mapped: 0, frames: 0, ports: 0, eventHandles: 0 });
  });

  it.each([
    ['before', -1, XEN_PAGE_SIZE - 1],
    ['behind', XEN_PAGE_SIZE, 0],
  ])("has nobody's memory %s it", async (_where, at, offset) => {
    const { host, map } = await scene();
    const { buffer, offsets } = map(true);
    new Uint8Array(buffer)[offsets[0] + at] = 1;
    expect(host.misuses()).toMatchObject([{ offset, count: 1 }]);
    await expect(host.close()).rejects.toThrow(refusal(/past the end of a page/));
  });

  it('is found out also when it is given out again, or its domain has ended', async () => {
    const { host, guest, allocator, pages, theirs } = await scene();
    const page = theirs();
    allocator.release(pages);
    page[0] = 1;
    // All that there is, which is more than was used before.
    for (let i = 0; i < 80; i++) allocator.allocate(0, 1, { writable: true });
    await guest.destroy();
    await expect(host.close()).rejects.toThrow(refusal(/domain 1 from byte 0 on$/));
  });

  it('is zero when it is given out, and all can be given out', async () => {
    const { host, allocator, pages, theirs } = await scene();
    theirs().fill(7);
    allocator.release(pages);
    let given = 0;
    try {
      for (;;) {
        const next = allocator.allocate(0, 1, { writable: true });
        given++;
        expect(Buffer.from(next.buffer, next.offsets[0], XEN_PAGE_SIZE).every((byte) => byte === 0)).toBe(true);
      }
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOMEM' });
    }
    // Of 256: each has one before it, and the last one has one behind it.
    expect(given).toBe(127);
    await host.close();
  });
});

it('a host that is not strict finds nothing', async () => {
  await using host = await EmulatedHost.create();
  const allocator = host.provider().openGrantAllocator();
  const pages = allocator.allocate(0, 1, { writable: true });
  allocator.release(pages);
  new Uint8Array(pages.buffer).fill(1, pages.offsets[0], pages.offsets[0] + 1);
  expect(host.misuses()).toEqual([]);
});
