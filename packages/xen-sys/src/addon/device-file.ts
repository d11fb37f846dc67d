import { constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoError, errnoName, XenSysError } from '../errors.js';
import { type Descriptor, loadAddon } from './addon.js';

/** Where Linux has Xen's devices. */
export const DEVICE_DIRECTORY = '/dev/xen';

/** The kernel module that makes each device; /dev/xen/xenbus is built in. */
const MODULES: Record<string, string | undefined> = {
  evtchn: 'xen-evtchn',
  gntdev: 'xen-gntdev',
  gntalloc: 'xen-gntalloc',
  privcmd: 'xen-privcmd',
};

/** The name of a device below {@link DEVICE_DIRECTORY}. */
export type DeviceName = 'evtchn' | 'gntdev' | 'gntalloc' | 'privcmd' | 'xenbus';

/**
 * Opens a device for reading and writing, without waiting.
 * Errors: ERR_NO_DEVICE, EACCES, or another errno; the message says what to install or to permit.
 */
export function openDevice(directory: string, name: DeviceName): Descriptor {
  const path = join(directory, name);
  const { Descriptor } = loadAddon();
  const device = new Descriptor(path, constants.O_RDWR | constants.O_NONBLOCK);
  if (device.fd < 0) throw openError(path, name, device.fd);
  return device;
}

function openError(path: string, name: DeviceName, result: number): XenSysError {
  const code = errnoName(result);
  const op = `open ${name}`;
  if (code === 'ENOENT' || code === 'ENXIO' || code === 'ENODEV') {
    return new XenSysError('ERR_NO_DEVICE', op, `${path}: ${code}, ${missing(name)}`, { errno: -result, path });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const advice = `no permission: run as root, or give this user the device (in a systemd unit DeviceAllow=${path} rw)`;
    return new XenSysError(code, op, `${path}: ${code}, ${advice}`, { errno: -result, path });
  }
  return errnoError(result, op, path);
}

function missing(name: DeviceName): string {
  const debianArch = process.arch === 'x64' ? 'amd64' : process.arch;
  if (!runsUnderXen()) return `this machine does not run under Xen (on Debian: package xen-system-${debianArch})`;
  const module = MODULES[name];
  const kernel = `package linux-image-${debianArch}`;
  if (module === undefined) return `xenstore is not available to this domain, or the kernel (${kernel}) lacks it`;
  return `the kernel module ${module} (${kernel}) is not loaded: modprobe ${module}`;
}

function runsUnderXen(): boolean {
  try {
    return readFileSync('/sys/hypervisor/type', 'utf8').trim() === 'xen';
  } catch {
    return false;
  }
}
