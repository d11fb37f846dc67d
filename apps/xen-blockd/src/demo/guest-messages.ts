import type { AbiName } from '@xenpv/blkif';
import type { SharedProvider } from '@xenpv/xen-sys';

/** What a guest's thread is started with. */
export interface GuestData {
  readonly provider: SharedProvider;
  readonly devid: number;
  readonly abi: AbiName;
  readonly ringPageOrder: number;
  /** Export the disk over NBD on this socket instead of reading it. */
  readonly nbd: string | undefined;
}

/** What the guest found when its disk connected. Sizes are in bytes. */
export interface GuestDisk {
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
}

/** What a guest's thread says. */
export type GuestMessage =
  | { readonly type: 'connected'; readonly disk: GuestDisk }
  | { readonly type: 'progress'; readonly bytes: number }
  | { readonly type: 'read'; readonly sha256: string; readonly milliseconds: number }
  | { readonly type: 'nbd-ready' }
  /** The NBD server has ended its connections, and all written data is flushed. */
  | { readonly type: 'nbd-closed' }
  /** The disk was detached and its frontend is closed. */
  | { readonly type: 'detached' }
  | { readonly type: 'error'; readonly code: string; readonly message: string };

/** What a guest's thread is told: end the NBD export. */
export type GuestCommand = 'close-nbd';
