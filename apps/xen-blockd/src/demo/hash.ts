import { createHash } from 'node:crypto';

/** What reading takes. Lengths and offsets are in bytes. */
interface ReadableDisk {
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
}

const CHUNK_BYTES = 256 * 1024;
/** Chunks in flight at once: enough to keep a ring of one page full. */
const WINDOW = 16;

/** Reads the whole disk in order, several chunks ahead, and gives its SHA-256 in hex. `progress` gets the bytes read so far. */
export async function hashDisk(disk: ReadableDisk, progress: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256');
  const ahead: Promise<Uint8Array>[] = [];
  let next = 0;
  const readMore = () => {
    const length = Math.min(CHUNK_BYTES, disk.size - next);
    const chunk = disk.read(next, length);
    // A failure is seen when its turn comes.
    chunk.catch(() => undefined);
    ahead.push(chunk);
    next += length;
  };
  for (let done = 0; done < disk.size; ) {
    while (next < disk.size && ahead.length < WINDOW) readMore();
    const chunk = await ahead.shift()!;
    hash.update(chunk);
    done += chunk.length;
    progress(done);
  }
  return hash.digest('hex');
}
