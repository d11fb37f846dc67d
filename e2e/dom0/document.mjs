/** The code blocks of a page in Markdown that say whether they are run, behind the language of their fence. */

const FENCE = /^(`{3,})([^\n`]*)\n([\s\S]*?)^\1$/gm;
/** Languages of blocks that have commands for an operator. */
const COMMANDS = new Set(['sh', 'console']);
const FORMS =
  '"lab", "lab in GUEST", "lab file PATH", each with ", soon", ", numbers vary" or ", ended after N s" behind it; or "not run: WHY"';

/**
 * The blocks of a page, in its order, each `{ section, line, language, text, lab, why }`. `section` is the heading above
 * it. `lab` is how it is run: `guest`, or undefined for dom0; `file`, the path that gets the text; `soon`, it is done again until
 * it is right; `vary`, numbers in what is printed stand for any; `seconds`, after which each command is interrupted.
 * Where it is undefined, `why` tells, or the block has no commands. Errors: a block of commands that says neither, or a word
 * that means nothing, with its line.
 */
export function codeBlocks(markdown) {
  const blocks = [];
  let section = '';
  let end = 0;
  for (const { 0: whole, 2: info, 3: text, index } of markdown.matchAll(FENCE)) {
    // Not in a block, where a line may begin like a heading.
    section = [...markdown.slice(end, index).matchAll(/^#+ (.*)$/gm)].at(-1)?.[1] ?? section;
    end = index + whole.length;
    const line = markdown.slice(0, index).split('\n').length;
    const [, language, marks] = /^(\S*)\s*(.*)$/.exec(info.trim());
    blocks.push({ section, line, language, text, ...meaning(language, marks, line) });
  }
  return blocks;
}

function meaning(language, marks, line) {
  const why = /^not run: (\S.*)$/.exec(marks)?.[1];
  if (why) return { why };
  if (marks === '') {
    if (COMMANDS.has(language))
      throw new Error(`line ${line}: does the lab run these commands? Say it behind "${language}": ${FORMS}`);
    return {};
  }
  const [where, ...how] = marks.split(', ');
  const [, guest, file] = /^lab(?: in (\S+)| file (\S+))?$/.exec(where) ?? fail(line, where);
  const lab = { guest, file, soon: false, vary: false, seconds: undefined };
  for (const word of how) {
    const seconds = /^ended after (\d+) s$/.exec(word)?.[1];
    if (word === 'soon') lab.soon = true;
    else if (word === 'numbers vary') lab.vary = true;
    else if (seconds) lab.seconds = Number(seconds);
    else fail(line, word);
  }
  return { lab };
}

function fail(line, word) {
  throw new Error(`line ${line}: "${word}": expected ${FORMS}`);
}

/**
 * The commands of a block, each with the lines that it prints, or undefined where the block shows none. In `console` a command
 * follows the prompt `# `; in `sh` each line is one.
 */
export function commandsOf({ language, text }) {
  const lines = text.trimEnd().split('\n');
  if (language !== 'console') {
    return lines.filter((line) => line.trim() !== '' && !line.startsWith('#')).map((command) => ({ command }));
  }
  const commands = [];
  for (const line of lines) {
    if (line.startsWith('# ')) commands.push({ command: line.slice(2), printed: [] });
    else commands.at(-1).printed.push(line);
  }
  return commands;
}

/**
 * Whether a program has printed what the page shows. A line `...` stands for any lines, and `...` within one for any text;
 * blanks are one blank; with `vary` a number is any number, and a time any time.
 */
export function isShown(shown, printed, { vary = false } = {}) {
  const lines = shown.map((line) => (line.trim() === '...' ? '(?:.*\n)*?' : `${patternOf(line, vary)}\n`));
  const text = printed
    .split('\n')
    .map((line) => line.trim().replace(/\s+/g, ' '))
    .filter((line, at, all) => line !== '' || at < all.length - 1);
  return new RegExp(`^${lines.join('')}$`).test(text.map((line) => `${line}\n`).join(''));
}

/** In a pattern: `12 s`, `1 min 12 s`, `0.31 s`; any number. */
const TIME_OR_NUMBER = /\d+(?:\\\.\d+)?(?: (?:s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?)?/g;
const NUMBER = '\\d+(?:\\.\\d+)?';
const TIME = `${NUMBER} (?:s|min|h|d)(?: \\d+ (?:s|min|h))?`;

function patternOf(line, vary) {
  const text = line
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[\\^$*+?.()|[\]{}]/g, '\\$&')
    .replaceAll('\\.\\.\\.', '.*');
  return vary ? text.replace(TIME_OR_NUMBER, (found) => (/[a-z]$/.test(found) ? TIME : NUMBER)) : text;
}
