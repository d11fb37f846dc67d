import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';

/**
 * The page that a guest shares with xenstored: struct xenstore_domain_interface of io/xs_wire.h, zeroed before use. The
 * last two words, which the struct leaves free, are bells for ends that have no event channel: each is counted up and
 * notified (Atomics) by the other end.
 */
export interface RingPage {
  /** Memory that has the page in it: the page alone, or all of the memory of the guest. */
  readonly buffer: SharedArrayBuffer;
  /** Where the 4096 bytes of the page begin: a multiple of 4. */
  readonly byteOffset: number;
}

/** The page as the byte rings in it want it. */
export function ringMemory({ buffer, byteOffset }: RingPage): Uint8Array {
  return new Uint8Array(buffer, byteOffset, XEN_PAGE_SIZE);
}

/** The words of the page. */
export function ringWords({ buffer, byteOffset }: RingPage): Int32Array {
  return new Int32Array(buffer, byteOffset, XEN_PAGE_SIZE / 4);
}
