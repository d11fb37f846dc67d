/**
 * The code that READMEs, docs/ and `@example` show, as programs. A comment before a block of a page says what a reader knows
 * and the block does not repeat:
 *
 *     <!-- before: code that makes the names it uses -->
 *     <!-- after: code that ends what it began -->
 *     <!-- compiled only: WHY -->
 *     <!-- again -->          before and after are those of the last block that had them
 *     <!-- continued -->      the block goes on with the program of the one before
 *
 * A block whose language is followed by a file's name is that file, beside the others of its page.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesBelow, ROOT } from './workspace.mjs';

const BLOCK = /((?:<!--(?:(?!-->).)*-->\s*)*)^```(?:js|ts|javascript|typescript|mjs)(?: (\S+))?\n(.*?)^```$/gms;
const WORD = /<!-- (before|after|again|compiled only|continued)(?:: ?(.*?))? ?-->/gs;
const IMPORT = /^import [^;]*;$/gm;
const EXAMPLE = /@example\n(?:\s*\* )?\s*```ts\n(.*?)```/gs;

/** The pages whose code is tried. */
function pages() {
  const named = ['README.md', 'CONTRIBUTING.md', 'e2e/README.md', 'examples/template-backend/README.md'];
  const below = ['packages', 'apps'].flatMap((group) =>
    readdirSync(join(ROOT, group)).map((name) => `${group}/${name}/README.md`),
  );
  const docs = readdirSync(join(ROOT, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : []));
  return [...named, ...below, ...docs].filter((page) => existsSync(join(ROOT, page)));
}

/** Every program of every page and docstring: `{ name, place, text, file, compiledOnly }`. */
export function documentedPrograms() {
  return [...pages().flatMap((page) => programsOfPage(page, readFileSync(join(ROOT, page), 'utf8'))), ...examples()];
}

/** The programs of one page. `file` is the name that its block has, or undefined; `compiledOnly` why it is not run. */
function programsOfPage(page, text) {
  const programs = [];
  let around = {};
  for (const match of text.matchAll(BLOCK)) {
    const [, comments, file, code] = match;
    const words = Object.fromEntries(
      [...comments.matchAll(WORD)].map(([, word, content]) => [word, content?.trim() ?? '']),
    );
    const place = `${page}:${lineOf(text, match.index + match[0].indexOf('```'))}`;
    if ('continued' in words) {
      programs.at(-1).text += `\n${code}`;
      continue;
    }
    if (!('again' in words)) around = words;
    const { before = '', after = '' } = around;
    const compiledOnly =
      file === undefined ? (words['compiled only'] ?? opens(page, text, match.index)) : 'a file of several';
    programs.push({ ...{ page, place, file, compiledOnly }, text: joined(before, code, after) });
  }
  return programs;
}

/** What opens a package's README is run by examples/src/readmes.test.ts, as both kinds of module. */
function opens(page, text, index) {
  const isFirst = !text.slice(0, index).includes('```');
  return isFirst && page.startsWith('packages/') ? 'run by the tests' : undefined;
}

/** Imports stand at the top, so that a block may come after the code that it needs. */
function joined(before, code, after) {
  const imports = [before, code, after].flatMap((part) => part.match(IMPORT) ?? []);
  const bodies = [before, code, after].map((part) => part.replace(IMPORT, '').trim());
  return [...imports, ...bodies.filter((body) => body !== ''), ''].join('\n');
}

/** What docstrings show. They need what a machine with Xen has, or say of themselves what they run on. */
function examples() {
  return filesBelow('packages')
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))
    .flatMap((path) => {
      const source = readFileSync(join(ROOT, path), 'utf8');
      return [...source.matchAll(EXAMPLE)].map((match) => {
        const text = match[1].replaceAll(/^ *\* ?/gm, '');
        const place = `${path}:${lineOf(source, match.index)}`;
        return { page: path, place, file: undefined, text, compiledOnly: onMachine(text) };
      });
    });
}

const onMachine = (text) =>
  /nativeProvider\(|XenstoreClient\.connect\(/.test(text) ? 'a machine with Xen' : undefined;

const lineOf = (text, index) => text.slice(0, index).split('\n').length;
