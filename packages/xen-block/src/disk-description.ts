import type { DeviceAddress } from '@xenpv/xenbus';
import type { RateLimits } from './rate-limits.js';

/** What is done when the storage fails a request, see {@link OnError}. */
export const ON_ERROR = ['report', 'stop-on-enospc', 'stop'] as const;
/**
 * `report`: the guest gets the error. `stop`: the request is kept and nothing more is taken from the disk's rings until
 * the disk is resumed; then it is done again. `stop-on-enospc`: so when the storage is full (ENOSPC, EDQUOT), `report`
 * otherwise. QEMU's werror and rerror.
 */
export type OnError = (typeof ON_ERROR)[number];

/** Why a disk is stopped, and since when. */
export interface DiskStop {
  /** When the first request was kept. */
  readonly since: Date;
  /** Of the request that the storage failed: `read`, `write`, `barrier`, `flush` or `discard`. */
  readonly operation: string;
  /** The errno's name: `ENOSPC`. */
  readonly errno: string;
  /** Bytes in the image. */
  readonly offset: number;
  /** Bytes; 0 for a flush of no data. */
  readonly length: number;
}

/** What the toolstack wants a device to be. */
export interface DiskConfig {
  /** Type, domid and devid: which backend directory these keys are in. */
  readonly address: DeviceAddress;
  /** The key `dev`, as `xvda`; without it the name that the devid stands for. */
  readonly vdev: string;
  /** The key `device-type`: `cdrom`; any other value, or none, makes a disk. */
  readonly deviceType: 'disk' | 'cdrom';
  /** The image format: `raw`, or what comes before the colon of params (`qcow2`, `vhd`). Never probed. */
  readonly format: string;
  /** What is served, usually a path; empty for a drive without a medium. */
  readonly target: string;
  /** The key `mode` has no `w` in it, or is absent. */
  readonly readOnly: boolean;
  /** Mode `w!`: others may write the image too, so it is not locked. */
  readonly shared: boolean;
  /** The virtual machine that the frontend's domain is, `/vm/UUID`: two domains are one while it migrates. */
  readonly vm: string | undefined;
  /** The key `direct-io-safe`: the toolstack asked for O_DIRECT. False when absent. */
  readonly direct: boolean;
  /** The key `discard-enable`: whether to offer discard; undefined: offered if the storage has it. */
  readonly discard: boolean | undefined;
  /** The key `on-error`, or undefined: the backend's options decide. */
  readonly onError: OnError | undefined;
  /** The key `limits`: what this disk may do, or undefined: the backend's options decide. */
  readonly limits: RateLimits | undefined;
  /** The key `guest-limits`: what all disks of the guest may do together, or undefined: others decide. */
  readonly guestLimits: RateLimits | undefined;
  /** The key `paused`: since when the disk takes no requests, or undefined: it takes them. */
  readonly paused: Date | undefined;
  /**
   * The guest is on its way from another host and was not connected here yet: the key `incoming`, or without it a name of
   * the guest that ends in `--incoming`. Its image is that host's until the guest connects.
   */
  readonly incoming: boolean;
}

/** What requests are checked against. */
export interface DiskGeometry {
  /** 512-byte sectors; 0 for an empty drive. */
  readonly sectors: number;
  /** Bytes: 512 or 4096. Ranges must be multiples of it. */
  readonly sectorSize: number;
  /**
   * VDISK_READONLY of the key `info`: the mode or the image says so. What would change the image is answered with
   * BLKIF_RSP_ERROR.
   */
  readonly readOnly: boolean;
  /**
   * The keys `feature-flush-cache` and `feature-barrier`. If false, flushes and barriers are answered with
   * BLKIF_RSP_EOPNOTSUPP.
   */
  readonly flush: boolean;
  /**
   * The key `feature-discard`; always false for a read-only disk. If false, a writable disk answers discards with
   * BLKIF_RSP_EOPNOTSUPP.
   */
  readonly discard: boolean;
  /**
   * The key `discard-secure`; only with `discard`. If false, a discard with BLKIF_DISCARD_SECURE is done as one
   * without.
   */
  readonly secureDiscard: boolean;
  /** Most segments of an indirect request; 0 when they were not offered. */
  readonly maxIndirectSegments: number;
}
