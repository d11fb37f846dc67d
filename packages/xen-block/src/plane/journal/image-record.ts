import { lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '@xenpv/xenbus';
import { XenBlockError } from '../../errors.js';
import { NEW, removeJournalFile } from './journal-file.js';

const VERSION = 1;
/** No record of ours is longer. */
const MAX_BYTES = 64 * 1024;

/** Which image a disk has: what a process that takes it over must find again. */
export interface KnownImage {
  /** As the toolstack named it; empty for a drive without a medium. */
  readonly target: string;
  /** See BlockImage; null where nothing tells it from another. */
  readonly identity: string | null;
  /** Bytes. */
  readonly size: number;
}

/** A small file, beside the journals of a disk's rings, that says which image their requests are for. */
export class ImageRecord {
  readonly path: string;
  /** What {@link check} has just read: a disk that is taken over mostly has the image that it had. */
  #read: string | undefined;

  constructor(directory: string, device: string) {
    this.path = join(directory, `${device}-image`);
  }

  /**
   * Whether `image` is the one of the record: the same storage, and not shorter. Throws ERR_IMAGE_CHANGED, which names both,
   * if not, or if there is a record that cannot be read. A drive may have got another medium meanwhile.
   */
  check(image: KnownImage, device: { readonly name: string; readonly deviceType: 'disk' | 'cdrom' }): void {
    const known = this.#known(device.name);
    if (!known || (device.deviceType === 'cdrom' && isAnotherMedium(image, known))) return;
    const isAnother = known.identity !== null && image.identity !== null && known.identity !== image.identity;
    if (!isAnother && image.size >= known.size) return;
    const what = isAnother ? 'is another one than' : 'is shorter than';
    const message =
      `the image ${describe(image)} ${what} the one that the guest was served: ${describe(known)}; ` +
      `put that one back, or: ${accept(device.name)}`;
    throw new XenBlockError('ERR_IMAGE_CHANGED', 'connect', message, { path: image.target });
  }

  /** From one instant to the next. Errors: ERR_JOURNAL; there is no record then. */
  write(image: KnownImage): void {
    const begun = this.path + NEW;
    const text = JSON.stringify({ version: VERSION, ...image });
    const read = this.#read;
    this.#read = undefined;
    if (text === read) return;
    try {
      rmSync(begun, { force: true });
      writeFileSync(begun, text, { flag: 'wx', mode: 0o600 });
      renameSync(begun, this.path);
    } catch (cause) {
      this.remove();
      throw new XenBlockError('ERR_JOURNAL', 'connect', errorMessage(cause), { path: this.path, cause });
    }
  }

  remove(): void {
    this.#read = undefined;
    for (const path of [this.path, this.path + NEW]) removeJournalFile(path);
  }

  #known(device: string): KnownImage | undefined {
    try {
      const stats = lstatSync(this.path, { throwIfNoEntry: false });
      if (!stats) return undefined;
      if (!stats.isFile() || stats.size > MAX_BYTES) throw new Error('it is no record of an image');
      const text = readFileSync(this.path, 'utf8');
      const known = parse(text);
      this.#read = text;
      return known;
    } catch (cause) {
      const message =
        `${this.path}, which says what image the guest was served, cannot be read: ${errorMessage(cause)}; ` +
        `if the image is the right one: ${accept(device)}`;
      throw new XenBlockError('ERR_IMAGE_CHANGED', 'connect', message, { path: this.path, cause });
    }
  }
}

function parse(text: string): KnownImage {
  const { version, target, identity, size } = JSON.parse(text) ?? {};
  if (version !== VERSION) throw new Error(`it is of version ${version}, and ${VERSION} is known here`);
  const isKnown = typeof target === 'string' && (identity === null || typeof identity === 'string');
  if (!isKnown || !Number.isSafeInteger(size)) throw new Error('it is damaged');
  return { target, identity, size };
}

/** Also what was empty, and has a medium now: an empty file is no medium. */
function isAnotherMedium(one: KnownImage, other: KnownImage): boolean {
  return one.target !== other.target || one.size === 0 || other.size === 0;
}

function describe({ target, identity, size }: KnownImage): string {
  return `${target} (${identity === null ? '' : `${identity}, `}${size} bytes)`;
}

function accept(device: string): string {
  return `xen-blockd resume ${device} --accept-image`;
}
