import { setTimeout as sleep } from 'node:timers/promises';
import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import { type BlockDevice, IMAGE_FORMATS } from '@xenpv/xen-block';
import { formatOf } from '../../images/storage-daemon/arguments.js';
import { type ControlContext, namedDisk } from '../controlled.js';
import { paramsOf } from '../disks/disk-keys.js';
import { readParams, writeParams } from '../disks/disk-params.js';
import { oneName } from './names.js';

const FORMATS = ['raw', ...IMAGE_FORMATS, 'vpc'];

/** Media of drives, and sizes of images. */
export function mediumCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /** Takes the medium out of a drive. `force` changes nothing. */
    eject: qmpCommand({
      members: { 'device?': 'str', 'id?': 'str', 'force?': 'bool' },
      run: ({ device, id }, { signal }) => changeMedium(controlled, oneName({ device, id }), { signal }),
    }),
    /** Puts another medium into a drive. `force` changes nothing. */
    'blockdev-change-medium': qmpCommand({
      members: {
        'device?': 'str',
        'id?': 'str',
        filename: 'str',
        'format?': { enum: FORMATS },
        'force?': 'bool',
      },
      run: ({ device, id, filename, format = 'raw' }, { signal }) => {
        const medium = { filename, format: formatOf(format) };
        return changeMedium(controlled, oneName({ device, id }), { medium, signal });
      },
    }),
    /** The image gets that many bytes; its guest is told. A smaller size loses the end of the image. */
    block_resize: qmpCommand({
      members: { 'device?': 'str', 'node-name?': 'str', size: 'size' },
      async run({ device, 'node-name': node, size }) {
        const disk = await namedDisk(controlled, oneName({ device, 'node-name': node }));
        await resize(disk, size);
      },
    }),
  };
}

interface MediumChange {
  /** Undefined for none. */
  readonly medium?: { readonly filename: string; readonly format: string } | undefined;
  readonly signal: AbortSignal;
}

/** As `xl cd-insert` and `cd-eject`: the drive watches its params, and follows when it can. */
async function changeMedium(controlled: ControlContext, name: string, { medium, signal }: MediumChange): Promise<void> {
  const disk = await namedDisk(controlled, name);
  const { address, config } = disk;
  if (config?.deviceType !== 'cdrom') {
    throw QmpError.refusal(`${name} is no cdrom drive: a disk has no medium; attach another disk, or detach it`);
  }
  // Only whole paths: others would be devices below /dev here, and files beside it in QEMU.
  if (medium && !medium.filename.startsWith('/')) {
    throw QmpError.refusal(`filename ${medium.filename}: expected a whole path, as /images/a.iso`);
  }
  const params = medium ? paramsOf(address, medium.filename, medium.format) : '';
  // The same name may be another file by now, which the drive would not look for.
  if (medium && (await readParams(controlled, address)) === params) await emptied(controlled, disk, signal);
  await writeParams(controlled, address, params);
}

const LOOK_MS = 20;

/** Takes the medium out; resolves when the drive is empty, or somebody has put another medium into it. */
async function emptied(controlled: ControlContext, disk: BlockDevice, signal: AbortSignal): Promise<void> {
  await writeParams(controlled, disk.address, '');
  while (disk.config?.target !== '' || disk.image) {
    await sleep(LOOK_MS, undefined, { signal });
    if ((await readParams(controlled, disk.address)) !== '') return;
  }
}

async function resize(disk: BlockDevice, size: number): Promise<void> {
  const { image } = disk;
  if (!image) throw QmpError.refusal('there is no medium to resize', 'DeviceNotActive');
  if (image.readOnly) throw QmpError.refusal(`${image.description} is read-only`);
  if (!image.resize) {
    throw QmpError.refusal(
      `${image.description} cannot be resized here: it is a ${image.engine} image; resize it where it is kept, then x-refresh`,
    );
  }
  if (size === 0 || size % image.sectorSize !== 0) {
    throw QmpError.refusal(
      `size ${size}: expected a multiple of ${image.sectorSize} bytes, the image's sector, above 0`,
    );
  }
  await disk.resize(size);
}
