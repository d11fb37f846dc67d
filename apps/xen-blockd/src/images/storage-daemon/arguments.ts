import { isDeepStrictEqual } from 'node:util';
import type { PinnedFile } from '@xenpv/blockdev';
import type { ChainImage, ImageChain } from '../chain/chain.js';
import { isNetworkDriver, type NetworkSource } from '../network/source.js';

/** QEMU's driver for one of IMAGE_FORMATS. */
export function driverOf(format: string): string {
  return format === 'vhd' ? 'vpc' : format;
}

/** The one of IMAGE_FORMATS that a driver of QEMU's is for. */
export function formatOf(driver: string): string {
  return driver === 'vpc' ? 'vhd' : driver;
}

export const PROGRAM = 'qemu-storage-daemon';

/** The name of the one export, and of the image's node. */
export const EXPORT = 'disk';
export const EXPORT_ID = 'disk';

/** The name of the node of one of the image's layers: 0 is the image itself, 1 its backing file. */
export function nodeOfLayer(depth: number): string {
  return depth === 0 ? EXPORT : `layer-${depth}`;
}

/** What a qemu-storage-daemon is to serve, and where. */
export interface StorageDaemonTask {
  /** The image. */
  readonly path: string;
  /** One of IMAGE_FORMATS, or a NetworkDriver; never probed. */
  readonly format: string;
  readonly readOnly: boolean;
  /** Others may write it too: no locks. */
  readonly shared?: boolean | undefined;
  /** Unix socket of its NBD server. */
  readonly socket: string;
  /** Unix socket of its monitor. */
  readonly monitor: string;
  /** Written when it has opened the image and exports it. */
  readonly pidFile: string;
}

/** The first descriptor that it gets besides the standard ones. */
const FIRST_FD = 3;

/** Where a helper finds the file that it gets as number `index`. */
export function fileName(index: number): string {
  return `/dev/fd/${FIRST_FD + index}`;
}

/** Drivers of formats with backing files: only they are told of one, or that there is none. */
const WITH_BACKING: ReadonlySet<string> = new Set(['qcow', 'qcow2', 'qed', 'vmdk']);

/**
 * The command line of a qemu-storage-daemon for one image, whose files it gets in the order of `files`. It works through
 * its options in their order: the image is opened before there is a socket. Every backing file is given to it, or that
 * there is none: no name in a header is ever followed. The object is of no use but to show in a list of processes which
 * image it is.
 */
export function storageDaemonArguments(task: StorageDaemonTask, { top, files }: OpenedChain): string[] {
  return commandLine(task, new Nodes(files, lockingOf(task)).of(top));
}

/** The same for an image on the network. */
export function networkArguments(task: StorageDaemonTask, { node, objects }: NetworkSource): string[] {
  return [...objects.flatMap((object) => ['--object', JSON.stringify(object)]), ...commandLine(task, node)];
}

/** The block node of an image on the network, as at the start: for its monitor. */
export function networkNode(task: StorageDaemonTask, { node }: Pick<NetworkSource, 'node'>): object {
  return topNode(task, node);
}

function topNode({ readOnly }: StorageDaemonTask, image: object): object {
  return { ...image, 'node-name': EXPORT, 'read-only': readOnly, discard: 'unmap' };
}

function commandLine(task: StorageDaemonTask, image: object): string[] {
  const { path, readOnly, socket, monitor, pidFile } = task;
  const exported = `type=nbd,id=${EXPORT_ID},node-name=${EXPORT},name=${EXPORT},writable=${readOnly ? 'off' : 'on'}`;
  return [
    ...['--object', JSON.stringify({ 'qom-type': 'authz-simple', id: 'image', identity: path })],
    ...['--blockdev', JSON.stringify(topNode(task, image))],
    ...['--nbd-server', JSON.stringify({ addr: { type: 'unix', path: socket } })],
    ...['--export', exported],
    ...['--chardev', `socket,id=monitor,path=${monitor.replaceAll(',', ',,')},server=on,wait=off`],
    ...['--monitor', 'chardev=monitor'],
    ...['--pidfile', pidFile],
  ];
}

function lockingOf({ shared }: StorageDaemonTask): string {
  return shared ? 'off' : 'auto';
}

type OpenedChain = Pick<ImageChain, 'top' | 'files'>;

/** QEMU's block nodes of an image. */
class Nodes {
  readonly #files: readonly PinnedFile[];
  readonly #locking: string;

  constructor(files: readonly PinnedFile[], locking: string) {
    this.#files = files;
    this.#locking = locking;
  }

  of({ driver, file, dataFile, backing }: ChainImage, depth = 0): object {
    return {
      ...{ driver, 'node-name': nodeOfLayer(depth) },
      file: this.#file(file),
      ...(dataFile && { 'data-file': this.#file(dataFile) }),
      ...(WITH_BACKING.has(driver) && { backing: backing ? this.of(backing, depth + 1) : null }),
    };
  }

  /** QEMU's `file` refuses block devices. */
  #file(file: PinnedFile): object {
    const driver = file.blockDevice ? 'host_device' : 'file';
    return { driver, filename: fileName(this.#files.indexOf(file)), locking: this.#locking };
  }
}

/** Whether a helper that runs with these arguments serves the same image in the same way as one with those would. */
export function isSameTask(running: readonly string[], wanted: StorageDaemonTask): boolean {
  const own = withoutSecret(running);
  const like = commandLine(wanted, likeOf(wanted));
  const at = like.indexOf('--blockdev') + 1;
  if (own.length !== like.length || !like.every((word, i) => i === at || word === own[i])) return false;
  return isDeepStrictEqual(withoutFiles(own[at] ?? ''), withoutFiles(like[at] ?? ''));
}

function likeOf(wanted: StorageDaemonTask): object {
  const driver = driverOf(wanted.format);
  return isNetworkDriver(driver) ? { driver } : { driver, file: { locking: lockingOf(wanted) } };
}

/** Which files it has was checked by the process that started it, and they may have moved since. */
function withoutFiles(node: string): unknown {
  try {
    const { driver, file, 'node-name': name, 'read-only': readOnly, discard } = JSON.parse(node);
    return { driver, name, readOnly, discard, locking: file?.locking };
  } catch {
    return undefined;
  }
}

/** One comes first where there is any. How the image is reached stays as it is until the helper is started anew. */
function withoutSecret(running: readonly string[]): readonly string[] {
  return running[1]?.includes('"qom-type":"secret"') ? running.slice(2) : running;
}
