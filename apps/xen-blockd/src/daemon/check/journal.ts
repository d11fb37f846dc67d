import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { checkFileSystem, checkJournalFolder } from '../journal-folder.js';
import { type Finding, good, note } from './finding.js';

const NAME = 'journal folder';

/** Where requests in flight are noted, for the process after a killed one. It is not made. */
export async function checkJournal(path: string | false): Promise<Finding> {
  if (path === false) {
    const detail = 'none: requests in flight are lost when the daemon is killed, and guests may lose data';
    return note(NAME, detail, 'take journal-directory = false out of the configuration');
  }
  const exists = existsSync(path);
  const problems = exists ? await checkJournalFolder(path) : await checkFileSystem(nearest(path));
  if (problems.length > 0)
    return note(NAME, `${path}: ${problems.map(problemOf).join('; ')}`, problems.map(mendOf).join('; '));
  return good(NAME, `${path} is in memory${exists ? '' : ', and made by the daemon'}`);
}

/** The folder that is there, which it will be made in. */
function nearest(path: string): string {
  const above = dirname(path);
  return above === path || existsSync(above) ? above : nearest(above);
}

/** A problem is said with its mend, behind a semicolon. */
const problemOf = (text: string) => text.slice(0, Math.max(text.lastIndexOf('; '), 0)) || text;
const mendOf = (text: string) => text.slice(text.lastIndexOf('; ') + 2);
