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
  readonly since: Date;
  /** Of the request that the storage failed: `read`, `write`, `barrier`, `flush` or `discard`. */
  readonly operation: string;
  /** The errno's name: `ENOSPC`. */
  readonly errno: string;
  /** Bytes in the image. */
  readonly offset: number;
  readonly length: number;
}

/** What the toolstack wants a device to be. */
export interface DiskConfig {
  readonly address: DeviceAddress;
  /** `xvda`. */
  readonly vdev: string;
  readonly deviceType: 'disk' | 'cdrom';
  /** The image format: `raw`, or what comes before the colon of params (`qcow2`, `vhd`). Never probed. */
  readonly format: string;
  /** What is served, usually a path; empty for a drive without a medium. */
  readonly target: string;
  /** Any mode without a `w` in it is read-only. */
  readonly readOnly: boolean;
  /** Mode `w!`: others may write the image too, so it is not locked. */
  readonly shared: boolean;
  /** The virtual machine that the frontend's domain is, `/vm/UUID`: two domains are one while it migrates. */
  readonly vm: string | undefined;
  /** The toolstack asked for O_DIRECT. */
  readonly direct: boolean;
  /** Whether to offer discard, or undefined: the toolstack leaves it to us. */
  readonly discard: boolean | undefined;
  /** The toolstack's `on-error`, or undefined: the backend's options decide. */
  readonly onError: OnError | undefined;
  /** The key `limits`: what this disk may do, or undefined: the backend's options decide. */
  readonly limits: RateLimits | undefined;
  /** The key `guest-limits`: what all disks of the guest may do together, or undefined: others decide. */
  readonly guestLimits: RateLimits | undefined;
  /** The key `paused`: since when the disk takes no requests, or undefined: it takes them. */
  readonly paused: Date | undefined;
}

/** What requests are checked against. */
export interface DiskGeometry {
  /** 512-byte sectors; 0 for an empty drive. */
  readonly sectors: number;
  /** Bytes: 512 or 4096. Ranges must be multiples of it. */
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly discard: boolean;
  readonly secureDiscard: boolean;
  /** Most segments of an indirect request; 0 when they were not offered. */
  readonly maxIndirectSegments: number;
}
