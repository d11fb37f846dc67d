import { readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BlockDeviceError, PinnedFile } from '@xenpv/blockdev';
import { outsideOf, refusal } from '../refusal.js';
import { apparentDriver, readReferences } from './headers.js';
import { ImageBytes } from './image-bytes.js';
import type { BackingReference, References } from './references.js';

/** More than anybody's snapshots; QEMU opens each one. */
const MOST_IMAGES = 100;

/** Which files an image may name besides itself. */
export interface ChainPolicy {
  /** All of them must be in or below one of these directories. If undefined: the image anywhere, the others below its folder. */
  readonly directories?: readonly string[] | undefined;
  /** Whether an image may name others at all; true if undefined. */
  readonly backingFiles?: boolean | undefined;
}

/** One image with the files that it is made of. */
export interface ChainImage {
  /** QEMU's. */
  readonly driver: string;
  readonly file: PinnedFile;
  /** Of qcow2 images whose data is in another file. */
  readonly dataFile: PinnedFile | undefined;
  readonly backing: ChainImage | undefined;
}

/**
 * An image and all files that its headers name, each found once and held, before anything else looks into them. A name
 * that leads out is refused, and whatever is not a file's name: what QEMU would open by a protocol of its own. Formats
 * are what the headers say. A backing file without one is raw, unless it looks like something else: then whoever writes
 * to it could say what it is.
 */
export class ImageChain implements AsyncDisposable {
  readonly top: ChainImage;
  /** All files, the image's own first. */
  readonly files: readonly PinnedFile[];

  private constructor(top: ChainImage, files: readonly PinnedFile[]) {
    this.top = top;
    this.files = files;
  }

  /** Errors: ERR_IMAGE; `driver` is QEMU's. */
  static async open(path: string, driver: string, policy: ChainPolicy): Promise<ImageChain> {
    const search = new ChainSearch(path, policy);
    try {
      return new ImageChain(await search.image(path, driver), search.files);
    } catch (error) {
      await closeAll(search.files);
      throw error;
    }
  }

  /** The image, its backing file, and so on. */
  get layers(): readonly ChainImage[] {
    const layers: ChainImage[] = [];
    for (let image: ChainImage | undefined = this.top; image; image = image.backing) layers.push(image);
    return layers;
  }

  close(): Promise<void> {
    return closeAll(this.files);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class ChainSearch {
  readonly files: PinnedFile[] = [];
  readonly #path: string;
  readonly #policy: ChainPolicy;
  readonly #seen = new Set<string>();

  constructor(path: string, policy: ChainPolicy) {
    this.#path = path;
    this.#policy = policy;
  }

  /** `whose` names it. */
  async image(path: string, driver: string | undefined, whose?: { path: string; driver: string }): Promise<ChainImage> {
    const file = await this.#pin(path, whose ? 'backing file' : 'image');
    const identity = await file.identity();
    if (this.#seen.has(identity)) throw this.#refused(`${path} is its own backing file`);
    if (this.#seen.size === MOST_IMAGES) throw this.#refused(`it has more than ${MOST_IMAGES} backing files`);
    this.#seen.add(identity);
    const known = driver ?? (await this.#withBytes(file, (bytes) => this.#guess(bytes, path, whose)));
    const { backing, dataFile, refused }: References = await this.#withBytes(file, (bytes) =>
      readReferences(bytes, known),
    );
    if (refused !== undefined) throw this.#refused(whose ? `its backing file ${path}: ${refused}` : refused);
    return {
      driver: known,
      file,
      dataFile: dataFile === undefined ? undefined : await this.#dataFile(path, dataFile),
      backing: backing && (await this.#backing(backing, path, known)),
    };
  }

  #backing({ name, driver, isOwnFormat }: BackingReference, path: string, own: string): Promise<ChainImage> {
    const named = this.#resolve(name, path, 'backing file');
    if (driver !== undefined && !BACKING_DRIVERS.has(driver)) {
      throw this.#refused(`its backing file ${name} is of format ${driver}, which is not served`);
    }
    return this.image(named, driver && (QEMU_NAMES[driver] ?? driver), { path, driver: isOwnFormat ? own : '' });
  }

  async #dataFile(path: string, name: string): Promise<PinnedFile> {
    return this.#pin(this.#resolve(name, path, 'data file'), 'data file');
  }

  /** Relative to the folder of the image that names it, as QEMU has it. */
  #resolve(name: string, path: string, what: string): string {
    if (name === '' || /^[^/]*:/.test(name)) {
      throw this.#refused(
        `its ${what} ${shortened(name)} is not the name of a file, and nothing else is opened for it`,
      );
    }
    if (this.#policy.backingFiles === false) {
      throw this.#refused(`it has the ${what} ${shortened(name)}, and backing-files is false`);
    }
    return name.startsWith('/') ? name : join(dirname(path), name);
  }

  async #pin(path: string, what: 'image' | 'backing file' | 'data file'): Promise<PinnedFile> {
    const within = what === 'image' ? this.#policy.directories : this.#directoriesOfOthers();
    try {
      const file = await PinnedFile.open(path, { within });
      this.files.push(file);
      return file;
    } catch (error) {
      throw this.#explain(error as Error, path, what);
    }
  }

  /** Without image-directories an image reaches no further than its own folder; a device's folder has all devices. */
  #directoriesOfOthers(): readonly string[] {
    const [image] = this.files;
    if (this.#policy.directories) return this.#policy.directories;
    return image === undefined || image.blockDevice ? [] : [dirname(pathOf(image))];
  }

  #explain(error: Error, path: string, what: string): Error {
    const subject = what === 'image' ? 'it' : `its ${what} ${path}`;
    const { syscall, code } = error as NodeJS.ErrnoException;
    if (syscall === 'read') return this.#refused(`${subject} cannot be read (${code})`, error);
    if (!(error instanceof BlockDeviceError)) return error;
    const { directories } = this.#policy;
    const said = error.message.startsWith(`${path} `) ? error.message.slice(path.length + 1) : error.message;
    const problem =
      error.code !== 'ERR_IMAGE_OUTSIDE' ? said : directories ? outsideOf(directories) : OUTSIDE_OF_FOLDER;
    return this.#refused(`${subject} ${problem}`, error);
  }

  async #guess(bytes: ImageBytes, path: string, whose: { driver: string } | undefined): Promise<string> {
    const apparent = await apparentDriver(bytes);
    if (apparent === undefined || apparent === whose?.driver) return apparent ?? 'raw';
    const advice = `if that is so, write it into the image: qemu-img rebase -u -F ${apparent} -b NAME IMAGE`;
    throw this.#refused(
      `the image does not say of which format its backing file ${path} is, which looks like ${apparent}; ${advice}`,
    );
  }

  #withBytes<T>(file: PinnedFile, use: (bytes: ImageBytes) => Promise<T>): Promise<T> {
    return ImageBytes.with(file, use).catch((error) => {
      throw this.#explain(error, file.path, file === this.files[0] ? 'image' : 'backing file');
    });
  }

  #refused(reason: string, cause?: Error): Error {
    return refusal(this.#path, reason, cause);
  }
}

/** As the header of an image is to name another file: by its name alone in the same folder, so that both may be moved. */
export function nameInHeader(file: string, image: string): string {
  if (dirname(file) !== dirname(image)) return file;
  const name = basename(file);
  // What is before a colon would be a protocol, as in `json:`.
  return name.includes(':') ? `./${name}` : name;
}

/** Of the file that was found, whatever its path has become since. */
function pathOf({ path, reference }: PinnedFile): string {
  return reference === path ? realpathSync(path) : readlinkSync(reference);
}

/** Formats of backing files, as headers call them. */
const BACKING_DRIVERS: ReadonlySet<string> = new Set([
  ...['raw', 'file', 'host_device', 'qcow', 'qcow2', 'qed', 'vpc', 'vhdx', 'vmdk', 'vdi'],
]);
/** Drivers of files, in the place of a format. */
const QEMU_NAMES: Readonly<Record<string, string>> = { file: 'raw', host_device: 'raw' };

/** What a backing file is that is elsewhere, without image-directories. */
export const OUTSIDE_OF_FOLDER = "is not below the image's own folder; name the folders of both in image-directories";

function shortened(name: string): string {
  return name.length <= 200 ? name : `${name.slice(0, 200)}…`;
}

async function closeAll(files: readonly PinnedFile[]): Promise<void> {
  for (const file of files) await file.close();
}
