const ZEROES = Buffer.alloc(4096);

/**
 * Zeroes `bytes[from..to)`. With a source it is a memcpy: 80 ns for 4 KiB of shared memory, where fill(0), which is
 * atomic byte by byte there, takes 1150 ns.
 */
export function zero(bytes: Buffer, from: number, to: number): void {
  if (from < to) bytes.fill(ZEROES, from, to);
}
