import { statSync } from 'node:fs';

/** QEMU's driver for each format that libxl writes into params. */
const DRIVERS: Readonly<Record<string, string>> = {
  qcow: 'qcow',
  qcow2: 'qcow2',
  qed: 'qed',
  vhd: 'vpc',
  vhdx: 'vhdx',
  vmdk: 'vmdk',
  vdi: 'vdi',
};

export const STORAGE_DAEMON_FORMATS: readonly string[] = Object.keys(DRIVERS);

export const PROGRAM = 'qemu-storage-daemon';

/** The name of the one export, and of the image's node. */
export const EXPORT = 'disk';
export const EXPORT_ID = 'disk';

/** What a qemu-storage-daemon is to serve, and where. */
export interface StorageDaemonTask {
  /** The image. */
  readonly path: string;
  /** One of {@link STORAGE_DAEMON_FORMATS}; never probed. */
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

/**
 * The command line of a qemu-storage-daemon for one image. It works through its options in their order: the image is
 * opened before there is a socket.
 */
export function storageDaemonArguments(task: StorageDaemonTask): string[] {
  const { readOnly, socket, monitor, pidFile } = task;
  const exported = `type=nbd,id=${EXPORT_ID},node-name=${EXPORT},name=${EXPORT},writable=${readOnly ? 'off' : 'on'}`;
  return [
    ...['--blockdev', JSON.stringify(imageNode(task))],
    ...['--nbd-server', JSON.stringify({ addr: { type: 'unix', path: socket } })],
    ...['--export', exported],
    ...['--chardev', `socket,id=monitor,path=${monitor.replaceAll(',', ',,')},server=on,wait=off`],
    ...['--monitor', 'chardev=monitor'],
    ...['--pidfile', pidFile],
  ];
}

function imageNode({ path, format, readOnly, shared }: StorageDaemonTask): object {
  const file = {
    driver: isBlockDevice(path) ? 'host_device' : 'file',
    filename: path,
    locking: shared ? 'off' : 'auto',
  };
  const access = { 'read-only': readOnly, discard: 'unmap' };
  return { driver: DRIVERS[format], 'node-name': EXPORT, ...access, file };
}

/** QEMU's `file` refuses block devices. What cannot be looked at is QEMU's to refuse, with its reason. */
function isBlockDevice(path: string): boolean {
  try {
    return statSync(path).isBlockDevice();
  } catch {
    return false;
  }
}
