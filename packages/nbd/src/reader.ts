import type { Socket } from 'node:net';
import { NbdError } from './errors.js';

/**
 * Reads exact numbers of bytes from a socket, for one reader at a time. What is not asked for stays in the socket,
 * so that a slow reader slows the peer down.
 */
export class SocketReader {
  readonly #socket: Socket;
  #ended = false;
  #cancelled = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    const wake = () => this.#wake?.();
    const end = () => {
      this.#ended = true;
      wake();
    };
    socket.on('readable', wake);
    socket.on('drain', wake);
    socket.on('end', end);
    socket.on('close', end);
    socket.on('error', end);
  }

  /** The next `length` bytes, which are the caller's. Rejects with NbdError ERR_ENDED. */
  async read(length: number): Promise<Buffer> {
    if (length === 0) return Buffer.alloc(0);
    for (;;) {
      // A peer that says more and more must not keep its reader.
      if (this.#cancelled) throw ended();
      const chunk: Buffer | null = this.#socket.destroyed ? null : this.#socket.read(length);
      if (chunk !== null && chunk.length === length) return chunk;
      // A shorter chunk is the rest of a stream that has ended.
      if (chunk !== null || this.#ended || this.#socket.destroyed) throw ended();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Resolves when the peer has taken what was written to it, but for what a socket holds; or has gone. */
  async untilTaken(): Promise<void> {
    const socket = this.#socket;
    while (socket.writableLength >= socket.writableHighWaterMark && !this.#ended && !socket.destroyed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Reads and forgets `length` bytes. */
  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      const part = Math.min(left, 1 << 20);
      await this.read(part);
      left -= part;
    }
  }

  /** Ends a read that waits, and reads nothing any more. */
  cancel(): void {
    this.#cancelled = true;
    this.#ended = true;
    this.#wake?.();
  }
}

function ended(): NbdError {
  return new NbdError('ERR_ENDED', 'read', 'the connection ended');
}
