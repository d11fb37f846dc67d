import * as fs from 'node:fs';

type Done = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** Positioned reads and writes of a descriptor, each of which calls back once: before it returns, or later. */
export interface FileCalls {
  /** `length` bytes to or from `buffer` at `at`; the file's `position` is in bytes. */
  read(fd: number, buffer: Buffer, at: number, length: number, position: number, done: Done): void;
  write(fd: number, buffer: Buffer, at: number, length: number, position: number, done: Done): void;
  readv(fd: number, buffers: readonly Buffer[], position: number, done: Done): void;
  writev(fd: number, buffers: readonly Buffer[], position: number, done: Done): void;
  fdatasync(fd: number, done: (error: NodeJS.ErrnoException | null) => void): void;
}

/** On libuv's thread pool, which all disks share: for where the addon is not. */
export const pooledCalls: FileCalls = fs;

/** At once, on the calling thread, which does nothing else meanwhile. */
export const immediateCalls: FileCalls = {
  read: (fd, buffer, at, length, position, done) => perform(() => fs.readSync(fd, buffer, at, length, position), done),
  write: (fd, buffer, at, length, position, done) =>
    perform(() => fs.writeSync(fd, buffer, at, length, position), done),
  readv: (fd, buffers, position, done) => perform(() => fs.readvSync(fd, buffers, position), done),
  writev: (fd, buffers, position, done) => perform(() => fs.writevSync(fd, buffers, position), done),
  fdatasync: (fd, done) =>
    perform(() => {
      fs.fdatasyncSync(fd);
      return 0;
    }, done),
};

function perform(call: () => number, done: Done): void {
  let bytes: number;
  try {
    bytes = call();
  } catch (error) {
    done(error as NodeJS.ErrnoException, 0);
    return;
  }
  done(null, bytes);
}
