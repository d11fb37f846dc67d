import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockImage } from '@xenpv/blockdev';
import { Backoff, type DeviceAddress, errorCode, errorMessage, type HeldDevice, printable } from '@xenpv/xenbus';
import { awaitedChannel, waitEndedChannel } from '../diagnostics.js';
import type { DiskConfig } from '../disk-description.js';
import { XenBlockError } from '../errors.js';

/** Between two tries, in milliseconds: a guest waits, and a try may start a process. */
const PAUSES = { firstMs: 50, lastMs: 1000 };

/** Whether another host may write the image until the guest connects here. Drives have media that nobody writes. */
export function isHandedOver({ incoming, readOnly, deviceType }: DiskConfig): boolean {
  return incoming && !readOnly && deviceType === 'disk';
}

/** What {@link IncomingImage.look} opens the image with: so nothing is written, and no lock is taken or minded. */
export function asLookedAt(config: DiskConfig): DiskConfig {
  return { ...config, readOnly: true, shared: true };
}

/**
 * The image of a disk whose guest migrates to this host. The toolstack attaches the disk while the guest runs on the
 * other host, which writes the image. So the image is only looked at then, and closed: that it is there, and how large. It is opened
 * as the disk's own when the guest connects here. The other host has suspended the guest by then, and lets go of the
 * image soon, when all that it had begun has ended. So one host has it at any time, and what one has written the other reads.
 */
export class IncomingImage {
  readonly #address: DeviceAddress;
  readonly #seen: SeenImage;
  #waiting: HeldDevice | undefined;
  #toldCode: string | undefined;

  /** `looked` is the caller's to close. */
  constructor(address: DeviceAddress, looked: BlockImage) {
    this.#address = address;
    const { identity, size, sectorSize } = looked;
    this.#seen = { identity, size, sectorSize };
  }

  /** Why the guest waits for it, and since when; undefined before it has connected. */
  get waiting(): HeldDevice | undefined {
    return this.#waiting;
  }

  /**
   * Tries until the image is open, whatever is the reason that it is not: the guest cannot go back. Rejects with the
   * signal's reason only.
   */
  async take(open: () => Promise<BlockImage>, signal: AbortSignal): Promise<BlockImage> {
    const backoff = new Backoff(PAUSES);
    try {
      for (;;) {
        try {
          const image = await this.#checked(await open());
          this.#over('taken');
          return image;
        } catch (error) {
          signal.throwIfAborted();
          this.#failed(error);
        }
        await sleep(backoff.failed(), undefined, { signal });
      }
    } finally {
      this.#over('given-up');
    }
  }

  /** The other host may have made it larger, by the guest's leave. */
  async #checked(image: BlockImage): Promise<BlockImage> {
    const { identity, size, sectorSize } = this.#seen;
    const isAnother = identity !== undefined && image.identity !== undefined && identity !== image.identity;
    if (!isAnother && image.size >= size && image.sectorSize === sectorSize) return image;
    await image.close();
    const what = isAnother ? 'another one' : `of ${image.size} bytes in sectors of ${image.sectorSize}`;
    const message =
      `${image.description} is ${what}; when the disk was attached for a guest on its way here, it was ` +
      `${isAnother ? identity : `of ${size} bytes in sectors of ${sectorSize}`}; put that one back, or detach the disk`;
    throw new XenBlockError('ERR_IMAGE_CHANGED', 'connect', message, { path: image.description });
  }

  #failed(error: unknown): void {
    const reason = printable(errorMessage(error));
    const { since = new Date(), attempts = 0 } = this.#waiting ?? {};
    this.#waiting = { reason, since, attempts: attempts + 1 };
    // Who has the image may be another process each time, and is in `waiting`.
    const code = errorCode(error);
    const isTold = code === this.#toldCode;
    this.#toldCode = code;
    if (!isTold) awaitedChannel.publish({ address: this.#address, error, ...this.#waiting });
  }

  #over(by: 'taken' | 'given-up'): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (!waiting) return;
    waitEndedChannel.publish({ address: this.#address, by, waitedMs: Date.now() - waiting.since.getTime() });
  }
}

type SeenImage = Pick<BlockImage, 'identity' | 'size' | 'sectorSize'>;
