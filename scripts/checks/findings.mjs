/**
 * Checks that each advisory, each numbered finding and each lesson of QEMU's backend that docs/ lists has a test by its
 * name: a row of a table whose link's text begins with the name, as a title in the file it leads to does; or a reason that
 * begins with "not ours". And that no title has a name without a row. `node scripts/checks/findings.mjs`
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ROOT } from '../lib/workspace.mjs';

/** What must be listed, by page. */
const LISTED = {
  'security.md': [
    ...[142, 155, 197, 216, 229, 349, 350, 361, 362, 365, 371, 403].map((number) => `XSA-${number}`),
    'CVE-2008-2004',
  ],
  'faults.md': [
    ...['F6', 'G1', 'G2', 'G3', 'G4', 'G5', 'H1', 'H2', 'H3', 'dm_restrict'],
    ...['36d883ba0d', '209bef3e01', 'ef916ab3ec', 'cb32314607', '67bc8e00f7', '705be57094'],
    ...['3809f7583b', '240cc11369', 'eb6ae7a682', '9000666052', '32d0b7be68', 'b807ca3fa0', 'c4583c8c39'],
    ...['15f084505a', 'a1c1082908', 'e7bc0204'],
  ],
};
const ROW = /^\| ([^|]+) \|.*\| ([^|]+) \|$/gm;
const LINK = /\[([^\]]+)\]\((\.\.\/[^)]+)\)/g;
const NAMED_TITLE = /(?:it|describe|test)(?:\.each[^\n]*)?\(\s*['"`]((?:XSA-|CVE-|QEMU )[^:'"`]+|[A-H]\d{1,2}): /g;
/** Of a table within a call, the title comes after it. */
const TITLE_AFTER_TABLE = /\]\s*(?:as const)?\)\(\s*['"`]((?:XSA-|CVE-|QEMU )[^:'"`]+|[A-H]\d{1,2}): /g;

/** Returns a note. Throws with what is wrong as `output`. */
export function checkFindings() {
  const wrong = [];
  const rows = new Set();
  for (const [page, listed] of Object.entries(LISTED)) {
    const text = readFileSync(join(ROOT, 'docs', page), 'utf8');
    const found = [...text.matchAll(ROW)].map(([, cell, last]) => ({ name: nameOf(cell), names: namesOf(cell), last }));
    for (const name of listed) {
      const row = found.find(({ names }) => names.includes(name));
      if (!row) wrong.push(`${page}: no row for ${name}`);
      else if (!row.last.startsWith('not ours: ')) wrong.push(...problemsOf(page, row));
      if (row) rows.add(row.name);
    }
  }
  for (const { name, file } of namedTitles()) {
    if (!rows.has(name)) wrong.push(`${file}: a title begins with "${name}", which has no row`);
  }
  if (wrong.length === 0) return `${Object.values(LISTED).flat().length} names`;
  throw Object.assign(new Error(`${wrong.length} findings without a test by their name`), { output: wrong.join('\n') });
}

/** What titles begin with: all advisories of a row together, the first commit. */
function nameOf(cell) {
  return cell.startsWith('QEMU ') ? cell.split(',')[0] : cell;
}

/** `XSA-361, 362` are two, `QEMU 209bef3e01, f6ec953ca3` too. */
function namesOf(cell) {
  const parts = cell.replace(/^QEMU /, '').split(', ');
  return parts.map((part) => (/^\d+$/.test(part) && cell.startsWith('XSA-') ? `XSA-${part}` : part));
}

function problemsOf(page, { name, last }) {
  const links = [...last.matchAll(LINK)].filter(([, title]) => title.startsWith(`${name}:`));
  if (links.length === 0) return [`${page}: the row of ${name} has no link to a test by that name`];
  return links.flatMap(([, title, link]) => {
    const path = resolve(ROOT, 'docs', link);
    const isThere = existsSync(path) && readFileSync(path, 'utf8').includes(title);
    return isThere ? [] : [`${page}: ${link} has no test "${title}"`];
  });
}

function namedTitles() {
  return testFiles().flatMap((file) => {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const titles = [NAMED_TITLE, TITLE_AFTER_TABLE].flatMap((title) => [...text.matchAll(title)]);
    return titles.map(([, name]) => ({ name, file }));
  });
}

/** Relative to the root. */
function testFiles() {
  const sources = [...workspaces('apps'), ...workspaces('packages'), 'bench'].map((folder) => join(folder, 'src'));
  return sources
    .filter((folder) => existsSync(join(ROOT, folder)))
    .flatMap((folder) => {
      const names = readdirSync(join(ROOT, folder), { recursive: true });
      return names.filter((name) => name.endsWith('.test.ts')).map((name) => join(folder, name));
    });
}

function workspaces(folder) {
  return readdirSync(join(ROOT, folder)).map((name) => join(folder, name));
}

if (process.argv[1] === `${ROOT}/scripts/checks/findings.mjs`) {
  try {
    console.log(checkFindings());
  } catch (error) {
    console.log(`${error.output ?? error.stack}\n${error.message}`);
    process.exitCode = 1;
  }
}
