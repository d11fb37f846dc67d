import { BlkifOp, BlkifStatus, SECTOR_SIZE } from '@xenpv/blkif';
import { BlkfrontError } from '../errors.js';
import type { FrontendQueue } from './queue.js';

/** What every request takes last. */
export interface RequestOptions {
  /** Aborting rejects the call with the signal's reason. The backend may carry the request out all the same. */
  readonly signal?: AbortSignal | undefined;
}

/** What one call of the user asked for, in as many requests as it takes; settles when the last is answered. */
export class Call {
  readonly promise: Promise<void>;
  readonly op: string;
  #resolve!: () => void;
  #reject!: (error: Error) => void;
  #left = 0;
  #error: Error | undefined;

  constructor(op: string) {
    this.op = op;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** One more request belongs to it. */
  add(): void {
    this.#left++;
  }

  /** One of its requests is over; the first error counts. */
  settle(error?: Error): void {
    this.#error ??= error;
    if (--this.#left > 0) return;
    if (this.#error === undefined) this.#resolve();
    else this.#reject(this.#error);
  }
}

/** One request of a call: what to put on the ring, and where its data is. */
export interface Piece {
  readonly call: Call;
  readonly operation: number;
  readonly sector: number;
  readonly sectors: number;
  readonly data: Uint8Array | undefined;
  /** Where in `data` this piece begins. */
  readonly at: number;
  /** Of a discard. */
  readonly flag: number;
}

/** Puts a piece on the ring, its data with it; -1 when there is no room. */
export function startPiece(queue: FrontendQueue, piece: Piece): number {
  const { operation, sector, sectors, data } = piece;
  if (operation === BlkifOp.discard) return queue.startDiscard(piece.flag, sector, sectors);
  const slot = queue.start(operation, sector, sectors);
  if (slot >= 0 && data !== undefined && operation !== BlkifOp.read) {
    queue.copyIn(slot, data, piece.at, sectors * SECTOR_SIZE);
  }
  return slot;
}

/** Takes the data of an answered piece and settles it. */
export function finishPiece(queue: FrontendQueue, slot: number, piece: Piece, status: number): void {
  if (status !== BlkifStatus.okay) {
    piece.call.settle(failure(piece, status));
    return;
  }
  if (piece.operation === BlkifOp.read && piece.data !== undefined) {
    queue.copyOut(slot, piece.data, piece.at, piece.sectors * SECTOR_SIZE);
  }
  piece.call.settle();
}

function failure(piece: Piece, status: number): BlkfrontError {
  const code = status === BlkifStatus.eopnotsupp ? 'EOPNOTSUPP' : 'EIO';
  const { op } = piece.call;
  return new BlkfrontError(code, op, `${op} of ${piece.sectors} sectors at ${piece.sector}: status ${status}`);
}
