import { BlockdError } from '../errors.js';

/** What libxl's command line for a QEMU asks of a program that leaves the disks to others. */
export interface DeviceModelArguments {
  /** Of the guest. */
  readonly domid: number;
  /** Unix sockets on which QMP is spoken. */
  readonly sockets: readonly string[];
}

/**
 * Reads libxl's command line (libxl__build_device_model_args_new): of its dozens of words only the guest's number and the
 * sockets matter here. Errors: ERR_USAGE, there is no guest, as when libxl asks a QEMU what it can do.
 */
export function readDeviceModelArguments(words: readonly string[]): DeviceModelArguments {
  const domid = valuesOf(words, '-xen-domid')[0];
  if (domid === undefined || !/^\d{1,5}$/.test(domid)) {
    const message =
      'expected -xen-domid N: xl starts this program, by device_model_override in the configuration of a guest';
    throw new BlockdError('ERR_USAGE', 'device-model', message);
  }
  const sockets = valuesOf(words, '-chardev').flatMap(socketOf);
  return { domid: Number(domid), sockets };
}

function valuesOf(words: readonly string[], option: string): string[] {
  return words.flatMap((word, i) => (word === option && words[i + 1] !== undefined ? [words[i + 1]] : []));
}

/** The path of `socket,id=libxl-cmd,path=/run/xen/qmp-libxl-5,server=on,wait=off`. A comma in it is written twice. */
function socketOf(chardev: string): string[] {
  const parts = chardev.split(/(?<!,),(?!,)/).map((part) => part.replaceAll(',,', ','));
  const path = parts.find((part) => part.startsWith('path='));
  return parts[0] === 'socket' && path !== undefined ? [path.slice('path='.length)] : [];
}
