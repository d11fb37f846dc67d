import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import type { BlockDevice } from '@xenpv/xen-block';
import { Deadline } from '../../deadline.js';
import { Snapshot } from '../../images/snapshot.js';
import { helperOf } from '../../images/storage-daemon/format-image.js';
import { type ControlContext, namedDisk } from '../controlled.js';
import { reportsOf } from '../disks/disk-reports.js';
import { refuseDuringJobs } from './jobs/jobs.js';

/** For the requests in flight to end: storage may hang. */
const DRAIN_MS = 30_000;

/** Layers of images. */
export function layerCommands(controlled: ControlContext): Record<string, QmpCommand> {
  // A layer that was prepared is of the image as it is now: two at once would lose one.
  let turn: Promise<unknown> = Promise.resolve();
  return {
    /**
     * What a qcow2 image is now is found as `filename` from now on, and is not written to again; the guest goes on with a new
     * layer under the image's own name. QEMU's blockdev-snapshot-sync gives the new name to the layer instead.
     */
    'x-snapshot': qmpCommand({
      members: { disk: 'str', filename: 'str' },
      returns: { array: 'any' },
      async run({ disk, filename }, { signal }) {
        const device = await namedDisk(controlled, disk);
        const made = turn.then(() => makeSnapshot(controlled, device, filename, signal));
        turn = made.catch(() => {});
        await made;
        return reportsOf(controlled, [device]);
      },
    }),
  };
}

async function makeSnapshot(
  { imagePolicy }: ControlContext,
  device: BlockDevice,
  filename: string,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  if (!filename.startsWith('/')) {
    throw QmpError.refusal(`filename ${filename}: expected a whole path, as /images/web1-monday.qcow2`);
  }
  const { config, image } = device;
  if (!config || !image) throw QmpError.refusal('the disk has no image', 'DeviceNotActive');
  const { target: path, format, readOnly, shared } = config;
  if (readOnly) throw QmpError.refusal(`${path} is read-only: it does not change; copy it`);
  if (shared) throw QmpError.refusal(`${path} may be written to by others (mode w!)`);
  await refuseDuringJobs(device);
  const task = {
    path,
    format,
    size: image.size,
    snapshot: filename,
    policy: imagePolicy(),
    folder: helperOf(image)?.lastingFolder,
  };
  const snapshot = await Snapshot.prepare(task);
  using deadline = new Deadline(signal, DRAIN_MS);
  try {
    await device.exchangeImage(snapshot, { signal: deadline.signal });
  } catch (error) {
    await snapshot.undo();
    throw error;
  }
}
