/**
 * apps/xen-blockd/man/xen-blockd.8, made from what the daemon's code says: the commands, their options and examples are those of
 * `--help`, the settings those of docs/reference.md. The prose around them is in scripts/man/xen-blockd.8.in.
 * `node scripts/man-page.mjs` writes the page; `npm test` checks that it is in step.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { importBundled } from './lib/bundled.mjs';
import { bold, escaped, filled, italic, verbatim } from './lib/roff.mjs';
import { APP, settings } from './lib/settings.mjs';
import { ROOT } from './lib/workspace.mjs';

const TEMPLATE = join(ROOT, 'scripts', 'man', 'xen-blockd.8.in');
const PAGE = join(ROOT, APP, 'man', 'xen-blockd.8');

const MODULES = `
export { makeProgram } from './cli/command-line.js';
export { commandTree } from './cli/completion/command-tree.js';
export { isReloaded } from './daemon/reload.js';
`;

/** An option of so many commands is told once. */
const COMMON = 4;

const NAME = 'xen-blockd';

/** As a sentence: helps begin small and have no full stop. */
function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}

/** Prose, in which options are bold, and what is code in Markdown. */
function prose(text) {
  const pieces = text.split(/(`[^`]+`|(?<![\w-])--[a-z][a-z-]+)/);
  return filled(pieces.map((piece, i) => (i % 2 === 1 ? bold(piece.replaceAll('`', '')) : escaped(piece))).join(''));
}

/** `--type <types...>` with its words in bold, and its values in italics. */
function optionTerm(term) {
  return term.replace(/(--?[\w-]+)|([<[])([\w-]+)(\.\.\.)?[>\]]/g, (_whole, flag, bracket, value, more = '') => {
    if (flag) return bold(flag);
    const shown = `${italic(value.toUpperCase())}${more}`;
    return bracket === '<' ? shown : `[${shown}]`;
  });
}

/** The commands with the words that call them; `help` is commander's. */
function named(commands, before = NAME) {
  return commands
    .filter(({ name }) => before !== NAME || name !== 'help')
    .flatMap((command) => {
      const name = `${before} ${command.name}`;
      return [{ ...command, words: name }, ...named(command.subcommands, name)];
    });
}

const usage = ({ words, arguments: values }) =>
  [bold(words), `[${italic('OPTIONS')}]`, ...values.map(({ term }) => optionTerm(term))].join(' ');

const synopsis = (commands) => commands.map(usage).join('\n.br\n');

const item = (term, help) => `.TP\n${term}\n${prose(sentence(help))}`;

/** Its notes and its examples: blocks with lines between that have nothing. */
function notesOf({ notes }) {
  const blocks = notes.split(/\n{2,}/);
  const isExamples = (block) => block.startsWith('Examples:\n');
  const examples = blocks.find(isExamples)?.split('\n').slice(1) ?? [];
  return { paragraphs: blocks.filter((block) => !isExamples(block)), examples };
}

/** Lines that are set off in a help are so here too. */
function paragraph(block) {
  const parts = [];
  for (const line of block.split('\n')) {
    const isSetOff = line.startsWith('  ');
    if (parts.at(-1)?.isSetOff === isSetOff) parts.at(-1).lines.push(line);
    else parts.push({ isSetOff, lines: [line] });
  }
  const text = ({ isSetOff, lines }) =>
    isSetOff ? `.RS 4\n${verbatim(lines.map((line) => line.trim()))}\n.RE` : prose(lines.join(' '));
  return `.PP\n${parts.map(text).join('\n')}`;
}

const isSame = (one) => (other) => one.term === other.term && one.help === other.help;

/** The options that many commands have, each once. */
function commonOptions(commands) {
  const all = commands.flatMap(({ options }) => options);
  const first = all.filter((option) => all.find(isSame(option)) === option);
  return first.filter((option) => all.filter(isSame(option)).length >= COMMON);
}

function commandSection(command, common) {
  const { description, options, arguments: values } = command;
  const isCommon = (option) => common.some(isSame(option));
  const shared = options.filter((option) => isCommon(option) && !option.term.startsWith('-h'));
  const flags = shared.map(({ flags: [flag] }) => bold(flag)).join(', ');
  return [
    `.SS ${usage(command)}`,
    prose(sentence(description)),
    ...values.map(({ term, help }) => item(optionTerm(term), help)),
    ...options.filter((option) => !isCommon(option)).map(({ term, help }) => item(optionTerm(term), help)),
    ...(flags === '' ? [] : [`.PP\nAlso ${flags}.`]),
    ...notesOf(command).paragraphs.map(paragraph),
  ].join('\n');
}

function examples(command) {
  const lines = notesOf(command).examples.map((line) => line.replace(/^ {2}/, ''));
  return `.PP\n${bold(command.words)}\n.RS 4\n${verbatim(lines)}\n.RE`;
}

function setting({ key, text, allowed, value }) {
  const given = value === undefined ? '' : ` Default: \`${JSON.stringify(value)}\`.`;
  return `.TP\n${bold(key)}\n${prose(`${text} ${sentence(`allowed: ${allowed}`)}${given}`)}`;
}

/** The prose, whose names are not torn apart either. */
function template() {
  return readFileSync(TEMPLATE, 'utf8').replace(/(?<=^|[ "])(?=[\w/]+\\-\w)/gm, '\\%');
}

/** The page as it should be. */
async function page() {
  const { makeProgram, commandTree, isReloaded } = await importBundled(MODULES, APP);
  const tree = commandTree(makeProgram({ ended() {}, ready() {} }));
  const commands = named(tree.commands);
  const common = commonOptions(commands);
  const all = await settings();
  const top = tree.options.filter((option) => !common.some(isSame(option)));
  const reloaded = all.filter(({ key }) => isReloaded(key)).map(({ key }) => bold(key));
  const parts = {
    SYNOPSIS: synopsis(commands),
    COMMANDS: commands.map((command) => commandSection(command, common)).join('\n'),
    OPTIONS: [...common, ...top].map(({ term, help }) => item(optionTerm(term), help)).join('\n'),
    SETTINGS: all.map(setting).join('\n'),
    RELOADED: filled(`${reloaded.slice(0, -1).join(', ')} and ${reloaded.at(-1)}.`),
    EXAMPLES: commands.map(examples).join('\n'),
  };
  return template().replace(/^@(\w+)@$/gm, (_whole, name) => parts[name]);
}

export async function checkManPage() {
  if (readFileSync(PAGE, 'utf8') !== (await page())) {
    throw new Error(`${APP}/man/xen-blockd.8 is out of step with the code: node scripts/man-page.mjs`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(PAGE, await page());
