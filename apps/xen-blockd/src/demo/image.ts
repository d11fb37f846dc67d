import { accessSync, constants, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BlockdError, errorCode } from '../errors.js';
import { packageRoot } from '../package-root.js';
import { findTool, runTool } from '../tools.js';

const SECTOR = 512;
const MIB = 1024 * 1024;
const DEFAULT_MIB = 32;

/** The image that the demo serves; disposing of it deletes one that was made. */
export interface DemoImage extends Disposable {
  readonly path: string;
  /** What it is, for the first line. */
  readonly description: string;
}

/** Errors: ERR_IMAGE with what is wrong and what to do. Nothing stays open. */
export function findImage(image: string, { readOnly }: { readonly readOnly: boolean }): DemoImage {
  const path = resolve(image);
  const size = sizeOf(image, path);
  if (size === 0) throw unusable(image, 'it is empty; give it a size with truncate -s 1G');
  if (size % SECTOR !== 0) {
    const padded = Math.ceil(size / SECTOR) * SECTOR;
    throw unusable(image, `its ${size} bytes are not whole sectors of ${SECTOR}; pad it with truncate -s ${padded}`);
  }
  try {
    accessSync(path, readOnly ? constants.R_OK : constants.R_OK | constants.W_OK);
  } catch (error) {
    const what = readOnly ? 'read' : 'read and written';
    throw unusable(image, `it may not be ${what} by this user; change its permissions`, error);
  }
  return { path, description: image, [Symbol.dispose]() {} };
}

function sizeOf(image: string, path: string): number {
  const found = statOf(image, path);
  if (found.isDirectory()) throw unusable(image, 'it is a directory; name a file in it');
  // The size of a block device is its engine's to find.
  if (found.isBlockDevice()) return SECTOR;
  if (!found.isFile()) throw unusable(image, 'neither a file nor a block device');
  return found.size;
}

function statOf(image: string, path: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw unusable(image, adviceOf(errorCode(error)), error);
  }
}

function unusable(image: string, reason: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_IMAGE', 'open image', `image ${image}: ${reason}`, { path: image, cause });
}

function adviceOf(code: string | undefined): string {
  switch (code) {
    case 'ENOENT':
      return 'there is no such file; check the path';
    case 'EACCES':
      return 'its directory may not be searched by this user; change its permissions';
    case 'ENOTDIR':
      return 'a part of its path is not a directory; check the path';
    default:
      return `it cannot be looked at (${code})`;
  }
}

/**
 * Makes an ext4 file system of this project's documentation. Without mke2fs it makes a pattern instead, and
 * tells `note`.
 */
export async function makeImage(note: (text: string) => void): Promise<DemoImage> {
  const directory = mkdtempSync(join(tmpdir(), 'xen-blockd-demo-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  try {
    const path = join(directory, 'docs.ext4');
    const made = { path, [Symbol.dispose]: remove };
    if (findTool('mke2fs')) {
      await makeFileSystem(path);
      return { ...made, description: 'an ext4 file system of the documentation' };
    }
    note('mke2fs is not there (Debian: apt-get install e2fsprogs); the disk has a pattern instead of a file system');
    await makePattern(path);
    return { ...made, description: 'a pattern' };
  } catch (error) {
    remove();
    throw error;
  }
}

async function makeFileSystem(path: string): Promise<void> {
  const args = ['-q', '-F', '-t', 'ext4', '-L', 'xen-blockd', '-d', documentation(), path, `${DEFAULT_MIB}M`];
  const { code, stderr } = await runTool('mke2fs', args);
  if (code === 0) return;
  throw new BlockdError('ERR_TOOL', 'run mke2fs', `mke2fs ended with ${code}: ${stderr.trim()}`, { path });
}

/** The repository's docs folder; installed from a registry, the package's own manual. */
function documentation(): string {
  const docs = fileURLToPath(new URL('../../docs', packageRoot));
  return existsSync(join(docs, 'architecture.md')) ? docs : fileURLToPath(new URL('man', packageRoot));
}

/** Every sector begins with its own number, so that a misplaced one shows. */
async function makePattern(path: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    const chunk = Buffer.alloc(MIB);
    for (let at = 0; at < DEFAULT_MIB * MIB; at += MIB) {
      for (let sector = 0; sector < MIB; sector += SECTOR) chunk.writeUInt32LE((at + sector) / SECTOR, sector);
      await file.write(chunk, 0, MIB, at);
    }
  } finally {
    await file.close();
  }
}
