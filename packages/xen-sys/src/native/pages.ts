import { XEN_PAGE_SIZE } from '../grant-table.js';

/** Where each of `count` pages begins that follow each other from 0, in bytes. */
export function pageOffsets(count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, page) => page * XEN_PAGE_SIZE);
}
