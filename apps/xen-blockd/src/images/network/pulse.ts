import { setTimeout as sleep } from 'node:timers/promises';
import { allocateMemory, type BlockImage, BlockOp, openNbdImage } from '@xenpv/blockdev';

/** Between two looks, at most. */
const EVERY_MS = 5000;

export interface PulseOptions {
  /** Of a helper's NBD server. */
  readonly socket: string;
  readonly exportName: string;
  /** Milliseconds without an answer after which the storage is away. */
  readonly silentMs: number;
  /** Ends the helper. */
  readonly onSilent: () => void;
}

/**
 * Finds out when storage is away whose driver waits without an end: reads a sector again and again, by a connection of its
 * own. What the guest has asked for is not looked at: its connections are other threads'.
 */
export class Pulse implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #beating: Promise<void>;

  constructor(options: PulseOptions) {
    this.#beating = this.#beat(options);
  }

  /** Nobody is told any more. */
  stop(): void {
    this.#stop.abort();
  }

  /** The helper has ended, or answers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await this.#beating;
  }

  async #beat(options: PulseOptions): Promise<void> {
    const { signal } = this.#stop;
    const pause = Math.min(EVERY_MS, options.silentMs / 2);
    while (!signal.aborted) {
      // A helper that is away is seen by who watches over it.
      await sleep(pause, undefined, { signal, ref: false })
        .then(() => look(options, signal))
        .catch(() => {});
    }
  }
}

async function look({ socket, exportName, silentMs, onSilent }: PulseOptions, signal: AbortSignal): Promise<void> {
  const silence = Number.POSITIVE_INFINITY;
  const image = await openNbdImage(socket, { exportName, readOnly: true, reconnect: 0, silence, signal });
  const late = setTimeout(() => {
    if (!signal.aborted) onSilent();
  }, silentMs);
  try {
    await readSector(image);
  } finally {
    clearTimeout(late);
    await image.close();
  }
}

/** Resolves when it is read, or cannot be. */
async function readSector(image: BlockImage): Promise<void> {
  const { sectorSize } = image;
  const queue = image.createQueue({ depth: 1, memory: allocateMemory(sectorSize) });
  try {
    await new Promise<void>((resolve) => {
      queue.onComplete(() => resolve());
      queue.push(BlockOp.read, 0, 0, sectorSize, Float64Array.of(0, 0, sectorSize), 1);
      queue.submit();
    });
  } finally {
    await queue.close();
  }
}
