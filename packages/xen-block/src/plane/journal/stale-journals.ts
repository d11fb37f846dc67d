import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeviceAddress, deviceName, type GoneDeviceOptions, isDeviceGone } from '@xenpv/xenbus';
import type { OperationOptions } from '@xenpv/xenstore';
import { removeJournalFile } from './journal-file.js';

/** As `journalPath` and `ImageRecord` name them: type, frontend's domain, device, and queue or `image`. */
const NAME = /^(\w+)-(\d+)-(\d+)-(?:\d+|image)(?:\.new)?$/;
/** Between two looks, while something is left. */
const LOOK_MS = 5000;

/** What can be asked about devices. */
export interface StaleJournalOptions extends Omit<GoneDeviceOptions, 'signal'> {
  /** Whether this process has the device now: its journals are its own to end. */
  readonly isServed: (address: DeviceAddress) => boolean;
  /** Milliseconds between two looks; 5000 when not given. */
  readonly lookMs?: number | undefined;
}

interface LeftJournals {
  readonly address: DeviceAddress;
  readonly files: string[];
}

/**
 * Removes the journals of devices that are gone and that nobody has ended: their process was killed, or they were held, and
 * nothing had them open, when they went. No other will adopt them. Devices that are served are not asked for at all: while
 * this is done at the start, guests wait for their disks.
 */
export class StaleJournals implements Disposable {
  readonly #directory: string;
  readonly #options: StaleJournalOptions;
  #isWanted = false;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(directory: string, options: StaleJournalOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  /**
   * Looks for them now. What is left then, because it cannot be told yet whether its device is gone, or the folder may not
   * be written, is looked at again from time to time. Rejects with errors of the store, and the signal's reason.
   */
  async start({ signal }: OperationOptions = {}): Promise<void> {
    this.#after(await this.#look(signal));
  }

  /** A device has gone, perhaps without whoever would have ended its journals. */
  deviceGone(): void {
    this.#isWanted = true;
    this.#looking ??= this.#lookAgain().finally(() => {
      this.#looking = undefined;
      if (this.#isWanted && !this.#isOver) this.deviceGone();
    });
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #lookAgain(): Promise<void> {
    this.#isWanted = false;
    // A xenstored that is in trouble is asked later.
    this.#after(await this.#look(undefined).catch(() => true));
  }

  #after(isLeft: boolean): void {
    clearTimeout(this.#timer);
    if (!isLeft || this.#isOver) return;
    this.#timer = setTimeout(() => this.deviceGone(), this.#options.lookMs ?? LOOK_MS).unref();
  }

  /** Resolves with whether something is left of devices that are not served. */
  async #look(signal: AbortSignal | undefined): Promise<boolean> {
    let isLeft = false;
    for (const { address, files } of await journalsIn(this.#directory)) {
      const { isServed } = this.#options;
      if (isServed(address)) continue;
      const isGone = await isDeviceGone(address, { ...this.#options, signal });
      // A device of that name may have come meanwhile, and begun its journal.
      if (isServed(address) || this.#isOver) continue;
      const removed = isGone && files.map((file) => removeJournalFile(join(this.#directory, file)));
      isLeft ||= !removed || removed.includes(false);
    }
    return isLeft;
  }
}

async function journalsIn(directory: string): Promise<Iterable<LeftJournals>> {
  const devices = new Map<string, LeftJournals>();
  for (const file of await readdir(directory).catch(() => [])) {
    const [, type, domid, devid] = NAME.exec(file) ?? [];
    if (devid === undefined) continue;
    const address = { type, domid: Number(domid), devid: Number(devid) };
    const name = deviceName(address);
    devices.set(name, { address, files: [...(devices.get(name)?.files ?? []), file] });
  }
  return devices.values();
}

/** Removes what is left of one device, whose connection is over. One that cannot be removed is adopted by nobody. */
export async function removeJournalsOf(directory: string, device: string): Promise<void> {
  for (const { address, files } of await journalsIn(directory)) {
    if (deviceName(address) !== device) continue;
    for (const file of files) removeJournalFile(join(directory, file));
  }
}
