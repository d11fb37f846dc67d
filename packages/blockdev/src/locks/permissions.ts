import { BlockDeviceError, errnoNameOf } from '../errors.js';

/** QEMU's permissions on a block node (BLK_PERM_…, include/block/block-common.h); the value is the bit's number. */
const Permission = { consistentRead: 0, write: 1, writeUnchanged: 2, resize: 3 } as const;

const ALL = [0, 1, 2, 3];
/** QEMU's file driver locks a byte for each permission that it uses, and one for each that it does not share. */
const USED_FROM = 100;
const UNSHARED_FROM = 200;

/** What of the addon the locks need. */
export interface ByteLocks {
  lockByte(fd: number, byte: number): number;
  unlockByte(fd: number, byte: number): number;
  byteLockedElsewhere(fd: number, byte: number): number;
}

/** As QEMU opens the disk of a guest: nobody else may write, and a writer is not seen by who does not share that. */
function bytesOf(readOnly: boolean): { held: number[]; foreign: number[] } {
  const used: number[] = readOnly ? [Permission.consistentRead] : [Permission.consistentRead, Permission.write];
  const shared: number[] = [Permission.consistentRead, Permission.writeUnchanged];
  const unshared = ALL.filter((permission) => !shared.includes(permission));
  return {
    held: [...used.map((bit) => USED_FROM + bit), ...unshared.map((bit) => UNSHARED_FROM + bit)],
    foreign: [...used.map((bit) => UNSHARED_FROM + bit), ...unshared.map((bit) => USED_FROM + bit)],
  };
}

/**
 * Takes QEMU's locks on an open file. Returns false, with nothing locked, when another user's locks do not go with
 * them. The locks are shared ones, so taking them never fails for that reason; both of two that come at the same time
 * may be refused, never neither. Error: the errno where the file system has no locks (ENOLCK).
 */
export function lockAsQemu(locks: ByteLocks, fd: number, path: string, readOnly: boolean): boolean {
  const { held, foreign } = bytesOf(readOnly);
  try {
    for (const byte of held) checked(locks.lockByte(fd, byte), path);
    if (!foreign.some((byte) => checked(locks.byteLockedElsewhere(fd, byte), path) === 1)) return true;
  } catch (error) {
    unlock(locks, fd, held);
    throw error;
  }
  unlock(locks, fd, held);
  return false;
}

/** The same locks where the other user is known to be welcome: nobody is looked for. */
export function joinAsQemu(locks: ByteLocks, fd: number, path: string, readOnly: boolean): void {
  for (const byte of bytesOf(readOnly).held) checked(locks.lockByte(fd, byte), path);
}

function unlock(locks: ByteLocks, fd: number, bytes: readonly number[]): void {
  for (const byte of bytes) locks.unlockByte(fd, byte);
}

/** A result of the addon that is not an errno. Error: the errno. */
export function checked(result: number, path: string): number {
  if (result >= 0) return result;
  const code = errnoNameOf(result);
  throw new BlockDeviceError(code, 'lock', `${path}: the file system has no locks (${code})`, { path });
}
