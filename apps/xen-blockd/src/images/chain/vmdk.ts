import { type ImageBytes, textOf } from './image-bytes.js';
import type { References } from './references.js';

/** Numbers are little-endian. A sparse extent of version 4 begins with KDMV, one of version 3 with COWD. */
const CAPACITY = 12;
/** Where QEMU looks for the parent's name in an image of one file: the descriptor behind the header. */
const DESCRIPTOR = 512;
const DESCRIPTOR_BYTES = 20 * 512;

const ADVICE = 'make one file of them: qemu-img convert -O vmdk -o subformat=monolithicSparse';

/**
 * Only images of one file are served. A descriptor names the files that have the data, whatever they are, and QEMU opens
 * them by these names; nothing can tell it to take others.
 */
export async function vmdkReferences(bytes: ImageBytes): Promise<References> {
  const header = await bytes.read(0, DESCRIPTOR);
  const magic = header.toString('latin1', 0, 4);
  if (magic !== 'KDMV' && magic !== 'COWD') {
    const text = textOf(await bytes.read(0, DESCRIPTOR_BYTES));
    return { refused: `it is not a VMDK image of one file${extentsOf(text)}; ${ADVICE}` };
  }
  const descriptor = textOf(await bytes.read(DESCRIPTOR, DESCRIPTOR_BYTES));
  if (magic === 'KDMV' && header.readBigUInt64LE(CAPACITY) === 0n) {
    return { refused: `it is a VMDK descriptor in the form of an image${extentsOf(descriptor)}; ${ADVICE}` };
  }
  const [, name] = /parentFileNameHint\s*=\s*"([^"]*)/.exec(descriptor) ?? [];
  return name === undefined ? {} : { backing: { name, isOwnFormat: true } };
}

/** Of the first extent, for the message: `RW 4192256 FLAT "disk-flat.vmdk" 0`. */
function extentsOf(descriptor: string): string {
  const [, name] = /^\s*RW \d+ \w+ "([^"]{1,200})"/m.exec(descriptor) ?? [];
  return name === undefined ? '' : `: its data is in other files, of which the first is ${name}`;
}
