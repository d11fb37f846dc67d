/** Files whose names change while somebody counts on them. */
import { chmod, chown, open, stat } from 'node:fs/promises';
import { errorCode } from '../errors.js';
import { refusal } from './refusal.js';

/** What is in a file, or in a folder, is on stable storage when this resolves. */
export async function flushFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whoever could open the image can open the file that takes its place. Error: ERR_IMAGE, `what` says which file. */
export async function makeAlike(image: string, file: string, what: string): Promise<void> {
  const [wanted, found] = [await stat(image), await stat(file)];
  try {
    // The unit has no right to give files away, and needs none where all is root's.
    if (wanted.uid !== found.uid || wanted.gid !== found.gid) await chown(file, wanted.uid, wanted.gid);
    await chmod(file, wanted.mode & 0o7777);
  } catch (error) {
    const owner = `user ${wanted.uid} and group ${wanted.gid}`;
    const advice = 'have the image belong to the user that xen-blockd runs as';
    throw refusal(image, `${what} cannot be given to ${owner} (${errorCode(error)}); ${advice}`, error);
  }
}
