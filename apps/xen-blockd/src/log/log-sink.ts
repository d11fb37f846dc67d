import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { errorCode } from '../errors.js';

/**
 * Writes to a file descriptor, and says how many bytes were taken. Throws where none can be. `failed` is called later if
 * what was taken has not arrived.
 */
export type WriteBytes = (bytes: Buffer, failed: (error: unknown) => void) => number;

/** How often a log that failed is tried again when there is no further line. */
const RETRY_MS = 1000;
/** Of a socket, whose writes are not finished at once. */
const MOST_QUEUED_BYTES = 256 * 1024;

/**
 * Where the lines of the log go. A line that cannot be written now (the reader is gone or has stopped, the disk is
 * full) is dropped and counted, and the next line that can be written follows one that says how many were lost.
 * Writing never throws and never waits.
 */
export class LogSink implements Disposable {
  readonly #write: WriteBytes;
  readonly #tell: (lost: number, reason: string) => string;
  /** The end of a line whose beginning was taken. */
  #rest: Buffer | undefined;
  #untold = 0;
  #reason = '';
  #lost = 0;
  #retry: NodeJS.Timeout | undefined;

  readonly #failed = (error: unknown) => {
    this.#reason = errorCode(error) ?? 'EIO';
    this.#lose();
  };

  /** `tell` makes the line that says what was lost. */
  constructor(write: WriteBytes, tell: (lost: number, reason: string) => string) {
    this.#write = write;
    this.#tell = tell;
  }

  /** Lines that could not be written, since the start. */
  get lost(): number {
    return this.#lost;
  }

  /** `line` ends with a newline. */
  write(line: string): void {
    if (!this.#catchUp() || !this.#put(line)) this.#lose();
  }

  #lose(): void {
    this.#untold++;
    this.#lost++;
    this.#retry ??= setInterval(() => this.#catchUp(), RETRY_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#retry);
    this.#retry = undefined;
  }

  /** Writes what is owed from before; false if that is not possible yet. */
  #catchUp(): boolean {
    if (this.#rest && !this.#putBytes(this.#rest)) return false;
    if (this.#untold > 0) {
      if (!this.#put(this.#tell(this.#untold, this.#reason))) return false;
      this.#untold = 0;
    }
    clearInterval(this.#retry);
    this.#retry = undefined;
    return true;
  }

  /** Whether the line is on its way. */
  #put(line: string): boolean {
    return this.#putBytes(Buffer.from(line)) || this.#rest !== undefined;
  }

  /** Whether all was taken; what is left of a line that was begun is kept. */
  #putBytes(bytes: Buffer): boolean {
    try {
      const taken = this.#write(bytes, this.#failed);
      this.#rest = taken < bytes.length ? bytes.subarray(taken) : undefined;
    } catch (error) {
      this.#reason = errorCode(error) ?? 'EIO';
      return false;
    }
    return this.#rest === undefined;
  }
}

/**
 * A write to this descriptor that does not wait. Pipes and terminals are opened anew for that, because their
 * modes are shared with the processes that have them from us or gave them to us.
 */
export function writeWithoutWaiting(fd: 1 | 2): WriteBytes {
  const stat = fstatSync(fd);
  if (stat.isSocket()) return writeToSocket(fd);
  const own = stat.isFIFO() || stat.isCharacterDevice() ? reopened(fd) : fd;
  return (bytes) => writeSync(own, bytes);
}

function reopened(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // Without /proc, a pipe without a reader, or another user's terminal.
    return fd;
  }
}

/** systemd connects a socket, which cannot be opened anew: Node's own stream does not wait either. */
function writeToSocket(fd: 1 | 2): WriteBytes {
  const socket = fd === 1 ? process.stdout : process.stderr;
  let failure: unknown;
  socket.on('error', (error) => {
    failure = error;
  });
  return (bytes, failed) => {
    if (failure) throw failure;
    if (socket.writableLength > MOST_QUEUED_BYTES) throw Object.assign(new Error('queue full'), { code: 'EAGAIN' });
    socket.write(bytes, (error) => error && failed(error));
    return bytes.length;
  };
}
