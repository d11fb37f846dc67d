import type { ImageBytes } from './image-bytes.js';
import type { References } from './references.js';

/** Numbers are big-endian. The footer is the last sector; images that grow have a copy of it at their beginning. */
const FOOTER_BYTES = 512;
const COOKIE = 'conectix';
const DISK_TYPE = 60;
const DIFFERENCING = 4;

/** QEMU knows no parents of VHD images, and would serve a differencing one as if its parent were empty. */
export async function vhdReferences(bytes: ImageBytes): Promise<References> {
  for (const offset of [0, Math.max(0, bytes.size - FOOTER_BYTES)]) {
    const footer = await bytes.read(offset, FOOTER_BYTES);
    if (footer.toString('latin1', 0, COOKIE.length) !== COOKIE) continue;
    if (footer.readUInt32BE(DISK_TYPE) === DIFFERENCING) {
      return { refused: 'it is a differencing VHD: a part of its data is in its parent, which QEMU does not read' };
    }
  }
  return {};
}
