import type { GrantAllocator, GrantedPages } from '@xenpv/xen-sys';
import { expect, it } from 'vitest';
import { FrontendPages } from './pages.js';

/** An allocator of so many pages. */
function allocatorOf(pages: number) {
  const memory = new SharedArrayBuffer(pages * 4096);
  const released: number[] = [];
  let given = 0;
  const allocate = (domid: number, count: number, { writable }: { writable: boolean }): GrantedPages => {
    if (given + count > pages) throw new Error('ENOSPC');
    const from = given;
    given += count;
    return {
      domid,
      refs: Uint32Array.from({ length: count }, (_, i) => 100 + from + i),
      writable,
      buffer: memory,
      offsets: Float64Array.from({ length: count }, (_, i) => (from + i) * 4096),
      contiguous: true,
    };
  };
  const release = ({ refs }: GrantedPages) => void released.push(...refs);
  const allocator: GrantAllocator = { allocate, release, close: () => {}, [Symbol.asyncDispose]: async () => {} };
  return { allocator, released, given: () => given };
}

it('grows by chunks, up to its limit, and hands out pages in the order of memory', () => {
  const { allocator, given } = allocatorOf(100);
  const pages = new FrontendPages(allocator, 0, 10, 4);
  expect(given()).toBe(0);
  expect(pages.reserve(1)).toBe(true);
  expect(given()).toBe(4);
  expect([pages.take(), pages.take()].map((page) => pages.refs[page])).toEqual([100, 101]);
  expect(pages.reserve(8)).toBe(true);
  expect(given()).toBe(10);
  expect(pages.reserve(9)).toBe(false);
  const taken = Array.from({ length: 8 }, () => pages.take());
  expect(new Set([0, 1, ...taken]).size).toBe(10);
  expect(pages.reserve(1)).toBe(false);
  pages.give(taken[3]);
  expect(pages.reserve(1)).toBe(true);
  expect(pages.take()).toBe(taken[3]);
});

it('has each page as bytes and as words of the same memory', () => {
  const pages = new FrontendPages(allocatorOf(4).allocator, 0, 4, 4);
  pages.reserve(2);
  pages.take();
  const page = pages.take();
  pages.words[page][1] = 0x01020304;
  expect([...pages.bytes[page].subarray(4, 8)]).toEqual([4, 3, 2, 1]);
  expect(pages.bytes[page].length).toBe(4096);
});

it('makes do with what there is, but not with nothing', () => {
  const scarce = new FrontendPages(allocatorOf(5).allocator, 0, 100, 4);
  expect(scarce.reserve(4)).toBe(true);
  expect(scarce.reserve(5)).toBe(false);
  const none = new FrontendPages(allocatorOf(2).allocator, 0, 100, 4);
  expect(() => none.reserve(1)).toThrow('ENOSPC');
});

it('ends all its grants', () => {
  const { allocator, released } = allocatorOf(10);
  const pages = new FrontendPages(allocator, 0, 10, 4);
  pages.reserve(6);
  pages.take();
  pages.release();
  expect(released.sort()).toEqual([100, 101, 102, 103, 104, 105, 106, 107]);
  expect(pages.reserve(0)).toBe(true);
});
