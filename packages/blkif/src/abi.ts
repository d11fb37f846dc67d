/**
 * One of the three layouts of io/blkif.h's structures. Offsets are in 32-bit words from the start of a ring slot:
 * every field of every layout is aligned to 4 bytes, 64-bit ones not to 8 in x86_32. All little-endian.
 */
export interface Abi {
  /** The layout's key in {@link ABIS}. */
  readonly name: AbiName;
  /** What a frontend of this layout writes to its `protocol` key. */
  readonly protocol: 'x86_32-abi' | 'x86_64-abi' | 'arm-abi';
  /** The stride of the ring, in bytes: the size of the largest request. */
  readonly slotBytes: 108 | 112;
  /** The stride of the ring in words. */
  readonly slotWords: 27 | 28;
  /** Words of a whole response, with its padding. It is at the start of its slot. */
  readonly responseWords: 3 | 4;
  /** The 64-bit id, the same in all requests. */
  readonly idWord: number;
  /** The 64-bit sector number, the same in read, write, discard and indirect requests. */
  readonly sectorWord: number;
  /** The first segment of a read or write; each is two words. */
  readonly segmentsWord: number;
  /** The 64-bit length of a discard. */
  readonly discardSectorsWord: number;
  /** The handle (16 bits) of an indirect request. */
  readonly indirectHandleWord: number;
  /** The first grant reference of an indirect request. */
  readonly indirectGrefsWord: number;
}

/** The name of a layout: the `protocol` key of its frontends without `-abi`. */
export type AbiName = 'x86_32' | 'x86_64' | 'arm';

/** 64-bit fields aligned to 8 bytes, as on x86_64 and both ARMs. */
const aligned = {
  slotBytes: 112,
  slotWords: 28,
  responseWords: 4,
  idWord: 2,
  sectorWord: 4,
  segmentsWord: 6,
  discardSectorsWord: 6,
  indirectHandleWord: 6,
  indirectGrefsWord: 7,
} as const;

/** The layouts of requests, by name. */
export const ABIS: Readonly<Record<AbiName, Abi>> = {
  x86_32: {
    name: 'x86_32',
    protocol: 'x86_32-abi',
    slotBytes: 108,
    slotWords: 27,
    responseWords: 3,
    idWord: 1,
    sectorWord: 3,
    segmentsWord: 5,
    discardSectorsWord: 5,
    indirectHandleWord: 5,
    indirectGrefsWord: 6,
  },
  x86_64: { name: 'x86_64', protocol: 'x86_64-abi', ...aligned },
  arm: { name: 'arm', protocol: 'arm-abi', ...aligned },
};

/**
 * The layout that a frontend's `protocol` key names; undefined for a name that is none. Absent means x86_32 on an
 * x86 machine, as Linux, QEMU and tapback have it; elsewhere there is only arm's.
 */
export function abiOfProtocol(protocol: string | undefined, arch: string = process.arch): Abi | undefined {
  if (protocol === undefined) return arch === 'x64' || arch === 'ia32' ? ABIS.x86_32 : ABIS.arm;
  return Object.values(ABIS).find((abi) => abi.protocol === protocol);
}
