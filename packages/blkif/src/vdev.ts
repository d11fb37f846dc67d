/** How a disk was named: the class of device, or `d`, which leaves the class to the guest. */
export type VdevKind = 'xvd' | 'hd' | 'sd' | 'd';

/** A virtual block device as xen-vbd-interface(7) has it. */
export interface Vdev {
  /** What identifies it in xenstore, as the devid: `device/vbd/<number>`. */
  readonly number: number;
  /** `d` only where a name said so: a number alone is `xvd`, `hd` or `sd`. */
  readonly kind: VdevKind;
  /** The disk within its class, from 0: `xvda`, `hda`, `d0`. */
  readonly disk: number;
  /** 0 is the whole disk. */
  readonly partition: number;
}

/** The one thing that can be wrong with a vdev. */
export type VdevErrorCode = 'ERR_VDEV';

/** What was tried: reading a name, or naming a disk by its number. */
export type VdevErrorOp = 'parseVdev' | 'vdevOfDisk';

/** On every VdevError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/blkif.VdevError');

/** A name or number that is no virtual device. */
export class VdevError extends Error {
  /** Always the class's name, also in bundles that rename classes. */
  override readonly name = 'VdevError';
  /** The same for every VdevError: what to switch on where errors of several packages meet. */
  readonly code: VdevErrorCode = 'ERR_VDEV';
  /** The function that was called. */
  readonly op: VdevErrorOp;
  /** Always undefined: {@link vdev} says what was wrong. */
  readonly path: string | undefined = undefined;
  /** What was given. */
  readonly vdev: string;

  constructor(vdev: string, op: VdevErrorOp, reason: string) {
    super(`vdev "${vdev}": ${reason}`);
    this.op = op;
    this.vdev = vdev;
  }

  static {
    Object.defineProperty(VdevError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== VdevError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}

const EXTENDED = 2 ** 28;
const RESERVED = 2 ** 29;
const XVD_MAJOR = 202;
const SD_MAJOR = 8;
const HD_MAJOR = 3;
const HD_SECOND_MAJOR = 22;
const MAX_DISKS = 2 ** 20;
const MAX_PARTITIONS = 256;

const limits: Record<VdevKind, { disks: number; partitions: number }> = {
  d: { disks: MAX_DISKS, partitions: MAX_PARTITIONS },
  xvd: { disks: MAX_DISKS, partitions: MAX_PARTITIONS },
  hd: { disks: 4, partitions: 64 },
  sd: { disks: 16, partitions: 16 },
};

/**
 * Reads every form of xen-vbd-interface(7): `xvda`, `xvda1`, `xvdtq37`, `hdc`, `sdb2`, `d0`, `d536p37`, and the
 * number itself in decimal, hexadecimal (`0xca00`) or octal. VdevError for all else, with what is wrong.
 *
 * @example
 * ```ts
 * import { parseVdev } from '@xenpv/blkif';
 *
 * console.log(parseVdev('xvda').number); // 51712
 * ```
 */
export function parseVdev(text: string): Vdev {
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text)) return parseNumber(text);
  const lettered = /^(xvd|hd|sd)([a-z]+)(\d+)?$/.exec(text);
  if (lettered !== null) {
    return named(text, 'parseVdev', lettered[1] as VdevKind, diskOfLetters(lettered[2]), Number(lettered[3] ?? 0));
  }
  const counted = /^d(\d+)(?:p(\d+))?$/.exec(text);
  if (counted !== null) return named(text, 'parseVdev', 'd', Number(counted[1]), Number(counted[2] ?? 0));
  throw new VdevError(text, 'parseVdev', 'is not xvdX[N], hdX[N], sdX[N], dN[pM] or a number');
}

/** What a device number says, or undefined for the reserved ones. */
export function decodeVdev(number: number): Vdev | undefined {
  if (!Number.isInteger(number) || number < 0 || number >= RESERVED) return undefined;
  if (number >= EXTENDED) {
    return { number, kind: 'xvd', disk: (number - EXTENDED) >>> 8, partition: number & 0xff };
  }
  const major = number >>> 8;
  const minor = number & 0xff;
  if (major === XVD_MAJOR) return { number, kind: 'xvd', disk: minor >> 4, partition: minor & 15 };
  if (major === SD_MAJOR) return { number, kind: 'sd', disk: minor >> 4, partition: minor & 15 };
  const second = major === HD_SECOND_MAJOR;
  if ((major === HD_MAJOR || second) && minor < 128) {
    return { number, kind: 'hd', disk: (minor >> 6) + (second ? 2 : 0), partition: minor & 63 };
  }
  return undefined;
}

/**
 * The name of a device number (`xvda`, `hdc1`), or the number in decimal where no name leads back to it: reserved
 * ones, and extended ones of a disk that has a short one.
 */
export function formatVdev(number: number): string {
  const vdev = decodeVdev(number);
  if (vdev === undefined || encode(vdev.kind, vdev.disk, vdev.partition) !== number) return String(number);
  return `${vdev.kind}${lettersOfDisk(vdev.disk)}${vdev.partition === 0 ? '' : vdev.partition}`;
}

/** The number of `xvd<disk>` as a whole disk: what a toolstack gives the disk that it was not told a name for. */
export function vdevOfDisk(disk: number): Vdev {
  return named(`d${disk}`, 'vdevOfDisk', 'xvd', disk, 0);
}

function parseNumber(text: string): Vdev {
  const octal = /^0[0-7]+$/.test(text);
  const vdev = decodeVdev(octal ? Number.parseInt(text, 8) : Number(text));
  if (vdev === undefined) throw new VdevError(text, 'parseVdev', 'is a reserved device number');
  return vdev;
}

function named(text: string, op: VdevErrorOp, kind: VdevKind, disk: number, partition: number): Vdev {
  const { disks, partitions } = limits[kind];
  if (!(disk < disks)) throw new VdevError(text, op, `${kind} has ${disks} disks`);
  if (!(partition < partitions)) throw new VdevError(text, op, `a disk of ${kind} has ${partitions - 1} partitions`);
  return { number: encode(kind, disk, partition), kind, disk, partition };
}

function encode(kind: VdevKind, disk: number, partition: number): number {
  if (kind === 'sd') return (SD_MAJOR << 8) | (disk << 4) | partition;
  if (kind === 'hd') {
    return disk < 2
      ? (HD_MAJOR << 8) | (disk << 6) | partition
      : (HD_SECOND_MAJOR << 8) | ((disk - 2) << 6) | partition;
  }
  if (disk < 16 && partition < 16) return (XVD_MAJOR << 8) | (disk << 4) | partition;
  return EXTENDED + disk * 256 + partition;
}

/** a is 0, z 25, aa 26. */
function diskOfLetters(letters: string): number {
  let disk = 0;
  for (const letter of letters) disk = disk * 26 + (letter.charCodeAt(0) - 96);
  return disk - 1;
}

function lettersOfDisk(disk: number): string {
  let letters = '';
  for (let rest = disk + 1; rest > 0; rest = Math.floor((rest - 1) / 26)) {
    letters = String.fromCharCode(97 + ((rest - 1) % 26)) + letters;
  }
  return letters;
}
