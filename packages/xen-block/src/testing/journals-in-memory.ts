/** Journals without files, in place of journal-file.ts, for tests that make very many of them. */
import type { SharedFile } from '@xenpv/xen-sys';

/** By path. */
export const journals = new Map<string, SharedArrayBuffer>();

function opened(path: string, buffer: SharedArrayBuffer): SharedFile {
  return { path, buffer: buffer as unknown as ArrayBuffer, close: () => {}, [Symbol.asyncDispose]: async () => {} };
}

export const NEW = '.new';

export function openJournalFile(path: string): SharedFile | undefined {
  const buffer = journals.get(path);
  return buffer && opened(path, buffer);
}

export function createJournalFile(path: string, bytes: number, write: (words: Int32Array) => void): SharedFile {
  const buffer = new SharedArrayBuffer(bytes);
  write(new Int32Array(buffer));
  journals.set(path, buffer);
  return opened(path, buffer);
}

export function removeJournalFile(path: string): void {
  journals.delete(path);
}
