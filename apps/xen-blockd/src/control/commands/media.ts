import { type QmpCommand, QmpError, qmpCommand } from '@xenpv/qmp';
import { type BlockDevice, IMAGE_FORMATS } from '@xenpv/xen-block';
import { type ControlContext, namedDisk } from '../controlled.js';
import { paramsOf } from '../disks/disk-keys.js';
import { writeParams } from '../disks/disk-params.js';
import { oneName } from './names.js';

const FORMATS = ['raw', ...IMAGE_FORMATS, 'vpc'];

/** Media of drives, and sizes of images. */
export function mediumCommands(controlled: ControlContext): Record<string, QmpCommand> {
  return {
    /** Takes the medium out of a drive. `force` changes nothing. */
    eject: qmpCommand({
      members: { 'device?': 'str', 'id?': 'str', 'force?': 'bool' },
      run: ({ device, id }) => changeMedium(controlled, oneName({ device, id }), undefined),
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
      run: ({ device, id, filename, format = 'raw' }) =>
        changeMedium(controlled, oneName({ device, id }), { filename, format: format === 'vpc' ? 'vhd' : format }),
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

/** As `xl cd-insert` and `cd-eject`: the drive watches its params, and follows when it can. */
async function changeMedium(
  controlled: ControlContext,
  name: string,
  medium: { readonly filename: string; readonly format: string } | undefined,
): Promise<void> {
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
  await writeParams(controlled, address, params);
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
  await image.resize(size);
  await disk.refresh({ mayShrink: true });
}
