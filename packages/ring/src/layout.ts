/** Bytes before the first slot of a shared ring: four indices, 16 bytes for the drivers' private use, padding. */
export const RING_HEADER_BYTES = 64;

/** Word offsets of the four shared indices (`struct sring` of io/ring.h). */
export const SHARED = { reqProd: 0, reqEvent: 1, rspProd: 2, rspEvent: 3 } as const;

/** The word offset of the first slot. */
export const SLOTS_WORD = RING_HEADER_BYTES / 4;

/** Where one direction of a pair of byte streams is: offsets in its page in bytes, and bytes of its data. */
export interface ByteRingLayout {
  /** The offset of the first byte of data. */
  readonly data: number;
  /** Bytes of data, a power of two. */
  readonly bytes: number;
  /** The offset of the consumer's index, u32, free-running. */
  readonly consumer: number;
  /** The offset of the producer's index, u32, free-running. */
  readonly producer: number;
}

/** The page of a guest's xenstore ring: `struct xenstore_domain_interface` of io/xs_wire.h. */
export const XENSTORE_RING = {
  /** `req`, `req_cons`, `req_prod`: from the guest to xenstored. */
  requests: { data: 0, bytes: 1024, consumer: 2048, producer: 2052 },
  /** `rsp`, `rsp_cons`, `rsp_prod`: from xenstored to the guest, with the events of watches. */
  responses: { data: 1024, bytes: 1024, consumer: 2056, producer: 2060 },
  /** u32, `server_features`. */
  serverFeatures: 2064,
  /** u32, `error`: XENSTORE_ERROR_*. */
  error: 2072,
} as const satisfies Record<string, ByteRingLayout | number>;

/** The page of a console: `struct xencons_interface` of io/console.h. */
export const CONSOLE_RING = {
  /** `in`, `in_cons`, `in_prod`: what the guest reads. */
  input: { data: 0, bytes: 1024, consumer: 3072, producer: 3076 },
  /** `out`, `out_cons`, `out_prod`: what the guest writes. */
  output: { data: 1024, bytes: 2048, consumer: 3080, producer: 3084 },
} as const satisfies Record<string, ByteRingLayout>;

/** The interface page of a flex ring: `struct xen_*_data_intf` of DEFINE_XEN_FLEX_RING, io/ring.h. */
export const FLEX_INTERFACE = {
  /** `in_cons`, `in_prod`: what the backend writes. */
  input: { consumer: 0, producer: 4 },
  /** `out_cons`, `out_prod`: what the frontend writes. */
  output: { consumer: 64, producer: 68 },
  /** u32, `ring_order`: the data area has 2^order pages. */
  order: 128,
  /** u32 each, `ref`: the grant references of those pages. */
  refs: 132,
} as const;

/**
 * In that page, of pvcalls only (`struct pvcalls_data_intf` of io/pvcalls.h): `in_error` and `out_error`, i32 each, why
 * a direction ended.
 */
export const PVCALLS_ERRORS = { input: 8, output: 72 } as const;

/**
 * The rings of a flex ring whose data area, apart from the interface page, has `bytes`: `input` first, then `output`.
 */
export function flexLayout(bytes: number): Record<'input' | 'output', ByteRingLayout> {
  const half = bytes / 2;
  return {
    input: { ...FLEX_INTERFACE.input, data: 0, bytes: half },
    output: { ...FLEX_INTERFACE.output, data: half, bytes: half },
  };
}
