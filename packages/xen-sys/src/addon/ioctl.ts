// Request numbers and argument layouts of Linux's include/uapi/xen/{evtchn,gntdev,gntalloc}.h, on machines where
// _IOC_NONE is 0 (x86 and Arm): size of the argument << 16 | type << 8 | number.

function request(type: string, number: number, bytes: number): number {
  return (bytes << 16) | (type.charCodeAt(0) << 8) | number;
}

export const EvtchnIoctl = {
  /** { u32 remote domain, u32 remote port }, returns the local port */
  bindInterdomain: request('E', 1, 8),
  /** { u32 remote domain }, returns the local port */
  bindUnboundPort: request('E', 2, 4),
  /** { u32 port } */
  unbind: request('E', 3, 4),
  /** { u32 port } */
  notify: request('E', 4, 4),
} as const;

export const GntdevIoctl = {
  /** { u32 count, u32 padding, u64 index out, count of { u32 domain, u32 reference } } */
  mapGrantRef: request('G', 0, 24),
  /** { u64 index, u32 count, u32 padding } */
  unmapGrantRef: request('G', 1, 16),
  /** { u32 count, padding, address of the segments } */
  grantCopy: request('G', 8, 16),
} as const;

export const GntallocIoctl = {
  /** { u16 domain, u16 flags, u32 count, u64 index out, count of u32 reference out } */
  allocGref: request('G', 5, 24),
  /** { u64 index, u32 count, padding } */
  deallocGref: request('G', 6, 16),
} as const;

const TWO_32 = 2 ** 32;

/** The u64 in `words[at]` and `words[at + 1]`; the indices of gntdev and gntalloc are byte offsets far below 2^53. */
export function readIndex(words: Uint32Array, at: number): number {
  return words[at] + words[at + 1] * TWO_32;
}

/** The argument of unmapGrantRef and deallocGref. */
export function rangeArgument(index: number, count: number): Uint32Array {
  return Uint32Array.of(index % TWO_32, index / TWO_32, count, 0);
}

/** The argument of grantCopy, for segments at `address`: the count is its first word, 0 so far. */
export function copyArgument(address: number): Uint32Array {
  return Uint32Array.of(0, 0, address % TWO_32, address / TWO_32);
}
