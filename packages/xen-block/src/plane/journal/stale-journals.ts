import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeviceAddress, deviceName, type GoneDeviceOptions, isDeviceGone } from '@xenpv/xenbus';
import { removeJournalFile } from './journal-file.js';

/** As `journalPath` and `ImageRecord` name them: type, frontend's domain, device, and queue or `image`. */
const NAME = /^(\w+)-(\d+)-(\d+)-(?:\d+|image)(?:\.new)?$/;

/** What can be asked about devices. */
export interface StaleJournalOptions extends GoneDeviceOptions {
  /** Whether this process has the device now: its journals are its own to end. */
  readonly isServed: (address: DeviceAddress) => boolean;
}

/**
 * Removes the journals of devices that are gone: their process was killed, and no other will adopt them. Each device is
 * asked for once, and those that are served not at all: while this is done, guests wait for their disks.
 */
export async function removeStaleJournals(directory: string, options: StaleJournalOptions): Promise<void> {
  const devices = new Map<string, { readonly address: DeviceAddress; readonly files: string[] }>();
  for (const file of await readdir(directory).catch(() => [])) {
    const [, type, domid, devid] = NAME.exec(file) ?? [];
    if (devid === undefined) continue;
    const address = { type, domid: Number(domid), devid: Number(devid) };
    const name = deviceName(address);
    devices.set(name, { address, files: [...(devices.get(name)?.files ?? []), file] });
  }
  for (const { address, files } of devices.values()) {
    if (options.isServed(address) || !(await isDeviceGone(address, options))) continue;
    for (const file of files) {
      // A device of that name may have come meanwhile, and begun its journal.
      if (!options.isServed(address)) await rm(join(directory, file), { force: true });
    }
  }
}

/** Removes what is left of one device, whose connection is over. One that cannot be removed is adopted by nobody. */
export async function removeJournalsOf(directory: string, device: string): Promise<void> {
  for (const file of await readdir(directory).catch(() => [])) {
    const [, type, domid, devid] = NAME.exec(file) ?? [];
    if (devid !== undefined && `${type}-${domid}-${devid}` === device) removeJournalFile(join(directory, file));
  }
}
