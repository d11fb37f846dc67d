import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { EmulatedDomain } from '../domain.js';
import { EmulatedHost } from '../host.js';

let host: EmulatedHost;
let guest: EmulatedDomain;

beforeEach(async () => {
  host = await EmulatedHost.create();
  guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
});

afterEach(() => host.close());

it('domain 0 maps frames of a guest by number, each with its own error', () => {
  new Uint8Array(guest.ram, 3 * XEN_PAGE_SIZE, 1)[0] = 42;
  const memory = host.provider().openForeignMemory();
  const mapping = memory.map(guest.domid, [3, 4, 9999], { writable: false });
  expect([...mapping.errors]).toEqual([0, 0, -22]);
  expect(new Uint8Array(mapping.buffer, mapping.offsets[0], 1)[0]).toBe(42);
  expect(memory.map(guest.domid, [3, 4], { writable: false }).contiguous).toBe(true);
  expect(memory.map(guest.domid, [4, 3], { writable: false }).contiguous).toBe(false);
  memory.unmap(mapping);
  memory.close();
  expect(() => memory.map(guest.domid, [3], { writable: false })).toThrow(
    expect.objectContaining({ code: 'ERR_CLOSED' }),
  );
});

it('what cannot be mapped at all is refused', () => {
  const memory = host.provider().openForeignMemory();
  expect(() => memory.map(9, [1], { writable: false })).toThrow(expect.objectContaining({ code: 'ESRCH' }));
  expect(() => memory.map(1, [-1], { writable: false })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => guest.provider.openForeignMemory()).toThrow(expect.objectContaining({ code: 'EACCES' }));
  expect(guest.provider.features.foreignMemory).toBe(false);
});
