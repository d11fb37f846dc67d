import type { ImageBytes } from './image-bytes.js';
import { qcow2References, qcowReferences } from './qcow.js';
import { qedReferences } from './qed.js';
import type { References } from './references.js';
import { vhdReferences } from './vhd.js';
import { vmdkReferences } from './vmdk.js';

type Parser = (bytes: ImageBytes) => Promise<References>;

/** By QEMU's driver. vdi and vhdx images of QEMU have no parent: it refuses those that have. */
const PARSERS: Readonly<Record<string, Parser>> = {
  qcow: qcowReferences,
  qcow2: qcow2References,
  qed: qedReferences,
  vpc: vhdReferences,
  vmdk: vmdkReferences,
};

/**
 * What an image of the format names. One that is not of the format names nothing: its driver refuses it, with its reason.
 */
export async function readReferences(bytes: ImageBytes, driver: string): Promise<References> {
  return (await PARSERS[driver]?.(bytes)) ?? {};
}

/** The first bytes of formats that QEMU would take a file for. A VHD has them at its end, or at its beginning too. */
const MAGIC: readonly (readonly [driver: string, magic: string, offset: number])[] = [
  ['qcow2', 'QFI\xfb', 0],
  ['qed', 'QED\0', 0],
  ['vmdk', 'KDMV', 0],
  ['vmdk', 'COWD', 0],
  ['vmdk', '# Disk DescriptorFile', 0],
  ['vhdx', 'vhdxfile', 0],
  ['vpc', 'conectix', 0],
  ['vdi', '\x7f\x10\xda\xbe', 64],
  ['luks', 'LUKS\xba\xbe', 0],
  ['parallels', 'WithoutFreeSpace', 0],
  ['parallels', 'WithouFreSpacExt', 0],
];

/** The format that a file looks like, or undefined: raw. Whoever wrote the file says so. */
export async function apparentDriver(bytes: ImageBytes): Promise<string | undefined> {
  const first = (await bytes.read(0, 512)).toString('latin1');
  const [driver] = MAGIC.find(([, magic, offset]) => first.startsWith(magic, offset)) ?? [];
  return driver === 'qcow2' && first.charCodeAt(7) === 1 ? 'qcow' : driver;
}
