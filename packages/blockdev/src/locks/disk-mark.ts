/**
 * What shows that nothing is in flight which an earlier process began for a disk. A process that is killed is gone at
 * once, but what it began by io_uring may reach slow storage later, after its successor's writes to the same place. Each
 * operation in flight keeps a reference to its open file description, and the kernel lets go of a lock of an open file
 * description with the last reference (fcntl(2), F_OFD_SETLK). So whoever does I/O for a disk locks one byte of the image,
 * shared, on each description that I/O uses; and a successor looks whether the byte is locked before it begins.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { optionalAddon } from '../addon.js';
import { reportLockUnavailable, reportUnquiet } from '../diagnostics.js';
import { BlockDeviceError } from '../errors.js';
import type { FileDescriptors } from '../queue/descriptors.js';
import { lockerOf } from './other-user.js';
import { type ByteLocks, checked } from './permissions.js';
import type { StorageId } from './storage-id.js';

/** Then whoever opens is told, and may try again. */
const WAIT_MS = 10_000;
/** As long as a living process may take to let go. */
const LIVING_MS = 1000;
/** A guest waits for this, and a look at the lock costs microseconds. */
const PAUSE_MS = 10;
/** Far from QEMU's bytes and from any image's end. */
const FIRST_BYTE = 2 ** 52;
const HASH_BYTES = 6;

/** How many marks this process has, by storage and byte: its own are not waited for. */
const own = new Map<string, number>();

export interface MarkRequest {
  readonly path: string;
  /** See `quietFor` of FileImageOptions. */
  readonly disk: string;
  /** All descriptors that I/O uses. */
  readonly files: FileDescriptors;
  /** Of the image. */
  readonly id: StorageId;
  readonly signal?: AbortSignal | undefined;
}

/** A disk's mark on an image. It goes with the last reference to the descriptors, or with `release`. */
export class DiskMark {
  readonly #locks: ByteLocks;
  readonly #key: string;
  readonly #byte: number;
  readonly #files: FileDescriptors;
  #released = false;

  private constructor(locks: ByteLocks, key: string, byte: number, files: FileDescriptors) {
    this.#locks = locks;
    this.#key = key;
    this.#byte = byte;
    this.#files = files;
    own.set(key, (own.get(key) ?? 0) + 1);
  }

  /**
   * Waits until nothing of an earlier process is in flight, then marks the image. Undefined where that cannot be: the
   * file system has no locks, of which `blockdev:lock:unavailable` tells; or there is no addon, so no io_uring either,
   * and a process does not end before its system calls. Error: ERR_IMAGE_IN_FLIGHT after ten seconds, or
   * ERR_IMAGE_IN_USE when a living process has the mark.
   */
  static async take({ path, disk, files, id, signal }: MarkRequest): Promise<DiskMark | undefined> {
    const locks = optionalAddon();
    if (!locks) return undefined;
    const byte = byteOf(disk);
    const key = `${id.key} ${byte}`;
    const look = () => own.has(key) || checked(locks.byteLockedElsewhere(files.buffered, byte), path) === 0;
    try {
      if (!look()) await becomesQuiet(look, { path, disk, id, byte, signal });
      // Nothing waits between the look and the mark, so no other image of this process is taken for a stranger's.
      for (const fd of new Set([files.main, files.buffered])) checked(locks.lockByte(fd, byte), path);
      return new DiskMark(locks, key, byte, files);
    } catch (error) {
      const { code } = error as BlockDeviceError;
      if (signal?.aborted || code === 'ERR_IMAGE_IN_FLIGHT' || code === 'ERR_IMAGE_IN_USE') throw error;
      reportLockUnavailable({ path, reason: (error as Error).message });
      return undefined;
    }
  }

  /** To be called before the descriptors are closed, when nothing is in flight on them. Harmless when repeated. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    // The kernel may keep a description for a while after its last operation: neighbours in the io_uring hold it.
    for (const fd of new Set([this.#files.main, this.#files.buffered])) this.#locks.unlockByte(fd, this.#byte);
    const left = (own.get(this.#key) ?? 0) - 1;
    if (left > 0) own.set(this.#key, left);
    else own.delete(this.#key);
  }
}

let boot: string | undefined;

/** Of this kernel's life: another host that has the same image may have a disk of the same name. */
function byteOf(disk: string): number {
  boot ??= bootId();
  const hash = createHash('sha256').update(`${boot} ${disk}`).digest();
  return FIRST_BYTE + hash.readUIntBE(0, HASH_BYTES);
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return hostname();
  }
}

interface Awaited {
  readonly path: string;
  readonly disk: string;
  readonly id: StorageId;
  readonly byte: number;
  readonly signal: AbortSignal | undefined;
}

/** Resolves right after `look` says that it is so. */
async function becomesQuiet(look: () => boolean, { path, disk, id, byte, signal }: Awaited): Promise<void> {
  reportUnquiet({ path, disk });
  const start = performance.now();
  for (let sought = false; !look(); ) {
    const waited = performance.now() - start;
    if (waited > WAIT_MS) throw notQuiet(path, disk);
    if (waited > LIVING_MS && !sought) {
      sought = true;
      const process = await lockerOf(id, byte);
      if (process !== undefined) throw servedBy(process, path, disk);
    }
    await sleep(PAUSE_MS, undefined, { signal });
  }
}

function servedBy(process: string, path: string, disk: string): BlockDeviceError {
  const message = `${path} is served for ${disk} by ${process}; end that process first`;
  return new BlockDeviceError('ERR_IMAGE_IN_USE', 'lock', message, { path });
}

function notQuiet(path: string, disk: string): BlockDeviceError {
  const seconds = WAIT_MS / 1000;
  const what = `requests that an ended process began for ${disk} are in flight since more than ${seconds} s`;
  const message = `${path} is not quiet: ${what}; look at its storage, which does not answer`;
  return new BlockDeviceError('ERR_IMAGE_IN_FLIGHT', 'lock', message, { path });
}
