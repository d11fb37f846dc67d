import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type GoneDeviceOptions, isDeviceGone } from '@xenpv/xenbus';

/** As `journalPath` and `ImageRecord` name them: type, frontend's domain, device, and queue or `image`. */
const NAME = /^(\w+)-(\d+)-(\d+)-(?:\d+|image)(?:\.new)?$/;

/** Removes the journals of devices that are gone: their process was killed, and no other will adopt them. */
export async function removeStaleJournals(directory: string, options: GoneDeviceOptions): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    const [, type, domid, devid] = NAME.exec(name) ?? [];
    if (devid === undefined) continue;
    if (!(await isDeviceGone({ type, domid: Number(domid), devid: Number(devid) }, options))) continue;
    await rm(join(directory, name), { force: true });
  }
}
