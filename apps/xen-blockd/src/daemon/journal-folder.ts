import { constants } from 'node:fs';
import { access, lstat, mkdir, statfs } from 'node:fs/promises';
import { errorMessage } from '@xenpv/xenbus';

/** `f_type` of tmpfs and ramfs, as statfs(2) lists them. */
const IN_MEMORY = [0x01021994, 0x858458f6];
/** Room for some dozens of rings. */
const LEAST_BYTES = 4 * 1024 * 1024;

/**
 * Makes the folder of journals if it is not there, and looks whether it serves its purpose: requests in flight outlive
 * this process there. Resolves with what is wrong with it, each in words with its mend; nothing if it is right.
 */
export async function checkJournalFolder(path: string): Promise<string[]> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const problems = await ownershipProblems(path);
    if (problems.length > 0) return problems;
    await access(path, constants.W_OK | constants.X_OK);
    return await checkFileSystem(path);
  } catch (error) {
    return [`it cannot be used: ${errorMessage(error)}; name another journal-directory`];
  }
}

async function ownershipProblems(path: string): Promise<string[]> {
  const found = await lstat(path);
  const owner = process.geteuid?.() ?? found.uid;
  if (!found.isDirectory()) return ['it is a link; name the folder itself'];
  if (found.uid !== owner) return [`it belongs to user ${found.uid}; chown it to ${owner}`];
  if ((found.mode & 0o022) !== 0) return ['others may write there; chmod 700 it'];
  return [];
}

/** What is wrong with the file system that a folder of journals would be on, as {@link checkJournalFolder} says it. */
export async function checkFileSystem(path: string): Promise<string[]> {
  const { type, bavail, bsize, blocks } = await statfs(path);
  const problems: string[] = [];
  if (!IN_MEMORY.includes(type >>> 0)) {
    problems.push('it is on a disk: every request waits for its pages now and then; use a folder below /run');
  }
  // ramfs has no limit and tells none.
  if (blocks > 0 && bavail * bsize < LEAST_BYTES) {
    problems.push(`it has ${bavail * bsize} bytes left and should have ${LEAST_BYTES}; make room there`);
  }
  return problems;
}
