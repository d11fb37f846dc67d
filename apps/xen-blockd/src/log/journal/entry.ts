/** A field of an entry: its name in capitals, and its value. */
export type JournalField = readonly [name: string, value: string];

/** Bytes of a length in the binary form. */
const LENGTH_BYTES = 8;

/**
 * One entry as journald's native protocol has it (systemd's "Native Journal Protocol"): a line for each field. A value
 * with a newline has the name in a line of its own, then its length as a u64, little endian, and itself.
 */
export function encodeEntry(fields: readonly JournalField[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => encodeField(name, Buffer.from(value))));
}

function encodeField(name: string, value: Buffer): Buffer[] {
  if (!value.includes('\n')) return [Buffer.from(`${name}=`), value, Buffer.from('\n')];
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeBigUInt64LE(BigInt(value.length));
  return [Buffer.from(`${name}\n`), length, value, Buffer.from('\n')];
}
