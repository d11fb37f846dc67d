import { type ImageBytes, textOf } from './image-bytes.js';
import type { References } from './references.js';

/** Layout: QEMU's docs/interop/qed_spec.txt; numbers are little-endian. */
const MAGIC = 0x00444551;
const FEATURES = 16;
const BACKING_OFFSET = 56;
const BACKING_BYTES = 60;
const MOST_NAME_BYTES = 1023;

const HAS_BACKING = 1;
const BACKING_IS_RAW = 4;

export async function qedReferences(bytes: ImageBytes): Promise<References> {
  const header = await bytes.read(0, 64);
  if (header.readUInt32LE(0) !== MAGIC) return {};
  const features = header.readUInt32LE(FEATURES);
  if ((features & HAS_BACKING) === 0) return {};
  const length = header.readUInt32LE(BACKING_BYTES);
  if (length === 0 || length > MOST_NAME_BYTES) return { refused: 'its header is wrong: the name of its backing file' };
  const name = textOf(await bytes.read(header.readUInt32LE(BACKING_OFFSET), length));
  if ((features & BACKING_IS_RAW) !== 0) return { backing: { name, driver: 'raw' } };
  return { backing: { name, isOwnFormat: true } };
}
