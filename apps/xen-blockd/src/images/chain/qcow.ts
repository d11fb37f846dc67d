import { type ImageBytes, textOf } from './image-bytes.js';
import type { References } from './references.js';

/** Layout: QEMU's docs/interop/qcow2.txt; numbers are big-endian. Version 1 has the same first 20 bytes. */
const MAGIC = 0x514649fb;
const BACKING_OFFSET = 8;
const BACKING_BYTES = 16;
const CLUSTER_BITS = 20;
const FEATURES = 72;
const HEADER_BYTES = 100;
const VERSION_2_BYTES = 72;
const MOST_NAME_BYTES = 1023;

/** Incompatible feature: the data is in another file. */
const EXTERNAL_DATA = 4n;

const EXTENSION_END = 0;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
const EXTENSION_DATA_FILE = 0x44415441;

const BAD_NAME: References = { refused: 'its header is wrong: the name of its backing file is too long' };

export async function qcowReferences(bytes: ImageBytes): Promise<References> {
  const header = await bytes.read(0, 48);
  if (header.readUInt32BE(0) !== MAGIC || header.readUInt32BE(4) !== 1) return {};
  const name = await backingName(bytes, header);
  if (name === undefined) return BAD_NAME;
  return name === '' ? {} : { backing: { name, isOwnFormat: true } };
}

export async function qcow2References(bytes: ImageBytes): Promise<References> {
  const header = await bytes.read(0, 104);
  const version = header.readUInt32BE(4);
  if (header.readUInt32BE(0) !== MAGIC || (version !== 2 && version !== 3)) return {};
  const name = await backingName(bytes, header);
  if (name === undefined) return BAD_NAME;
  const clusterBits = header.readUInt32BE(CLUSTER_BITS);
  if (clusterBits < 9 || clusterBits > 21) return { refused: 'its header is wrong: the size of its clusters' };
  const backingOffset = Number(header.readBigUInt64BE(BACKING_OFFSET));
  const cluster = await bytes.read(0, Math.min(backingOffset || Infinity, 1 << clusterBits));
  const first = version === 2 ? VERSION_2_BYTES : header.readUInt32BE(HEADER_BYTES);
  const extensions = extensionsOf(cluster, first);
  const driver = extensions.get(EXTENSION_BACKING_FORMAT) || undefined;
  const hasData = version === 3 && (header.readBigUInt64BE(FEATURES) & EXTERNAL_DATA) !== 0n;
  const dataFile = hasData ? extensions.get(EXTENSION_DATA_FILE) : undefined;
  if (hasData && !dataFile) return { refused: 'its data is in another file, of which its header has no name' };
  return { backing: name === '' ? undefined : { name, driver }, dataFile };
}

/** Empty if there is none, undefined if its place or length is impossible. */
async function backingName(bytes: ImageBytes, header: Buffer): Promise<string | undefined> {
  const offset = header.readBigUInt64BE(BACKING_OFFSET);
  const length = header.readUInt32BE(BACKING_BYTES);
  if (offset === 0n) return '';
  if (length > MOST_NAME_BYTES || offset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return textOf(await bytes.read(Number(offset), length));
}

/** Texts of the header's extensions by their type, the last one of each, in the part of the first cluster that is theirs. */
function extensionsOf(cluster: Buffer, first: number): Map<number, string> {
  const found = new Map<number, string>();
  for (let at = first; at + 8 <= cluster.length; ) {
    const type = cluster.readUInt32BE(at);
    const length = cluster.readUInt32BE(at + 4);
    if (type === EXTENSION_END || at + 8 + length > cluster.length) break;
    if (type === EXTENSION_BACKING_FORMAT || type === EXTENSION_DATA_FILE) {
      found.set(type, textOf(cluster.subarray(at + 8, at + 8 + length)));
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}
