import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { expect } from 'vitest';
import { makeProgram } from './cli/command-line.js';
import { type CommandSpec, commandTree } from './cli/completion/command-tree.js';
import { CONFIG_KEYS } from './daemon/config.js';
import { isReloaded } from './daemon/reload.js';
import { packageRoot } from './package-root.js';

interface Roff {
  escaped(text: string): string;
  filled(roff: string): string;
  verbatim(lines: readonly string[]): string;
}

const { escaped, filled, verbatim } = (await import(
  new URL('../../../scripts/lib/roff.mjs', import.meta.url).href
)) as Roff;

const groff = needs('groff');
const tree = commandTree(makeProgram({ ended() {}, ready() {} }));
const commands = tree.commands.filter(({ name }) => name !== 'help');
const examplesOf = ({ notes }: CommandSpec) =>
  /^Examples:\n((?: {2}.+\n?)+)/m.exec(notes)?.[1].trimEnd().split('\n') ?? [];

/** The page as a terminal shows it, of so many columns. */
function shown(roff: string, columns = 400): string {
  // A word that is longer than a line is no fault of the page.
  const args = ['-man', '-ww', '-Wbreak', '-Tascii', '-P-cbou', `-rLL=${columns}n`];
  const { stdout, stderr } = spawnSync('groff', args, { input: roff, encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout;
}

groff.it('the man page has every command, with its examples as they are, and every setting', () => {
  const page = shown(readFileSync(new URL('man/xen-blockd.8', packageRoot), 'utf8'));
  const headings = [...page.matchAll(/^ {3}(xen-blockd .*)$/gm)].map(([, heading]) => heading);
  const words = commands.flatMap(({ name, subcommands }) => [name, ...subcommands.map((sub) => `${name} ${sub.name}`)]);
  expect(headings.map((heading) => heading.replace(/ \[.*/, ''))).toEqual(words.map((name) => `xen-blockd ${name}`));
  const all = commands.flatMap((command) => [command, ...command.subcommands]);
  for (const line of all.flatMap(examplesOf)) expect(page).toContain(`  ${line.trim()}\n`);
  for (const { term } of all.flatMap(({ options }) => options)) {
    expect(page).toContain(/--[a-z-]+/.exec(term)?.[0]);
  }
  for (const key of CONFIG_KEYS) expect(page).toMatch(new RegExp(`^ {7}${key}( |$)`, 'm'));
  const [, reloaded] = /Read the configuration anew: (.*?) Disks that are there/.exec(page.replace(/\s+/g, ' ')) ?? [];
  for (const key of CONFIG_KEYS.filter(isReloaded)) expect(reloaded?.split(/, | and |\./)).toContain(key);
});

groff.it('the man page has no word of ours torn apart on a terminal of 40 columns', () => {
  const page = shown(readFileSync(new URL('man/xen-blockd.8', packageRoot), 'utf8'), 40);
  for (const name of ['--allow-shrink', 'image-directories']) expect(page).toContain(name);
  expect(page).not.toMatch(/-[a-z]+-\n/);
});

groff.it('what roff would take for something else is shown as it is', () => {
  const lines = [
    '.start',
    "'quoted'",
    '\\back\\slash',
    '--a-b ^ ~ ` "',
    'a  gap',
    '.\\" no comment',
    '$(x) \\fBno font',
  ];
  const page = shown(`.TH X 8\n.SH VERBATIM\n${verbatim(lines)}\n`);
  for (const line of lines) expect(page).toContain(`${line}\n`);
  const text = `.start of \\e and \\n(x, ${'word '.repeat(40)}'quoted' -- done. .Next one. 'Third.`;
  const filledPage = shown(`.TH X 8\n.SH FILLED\n${filled(escaped(text))}\n`);
  expect(filledPage.replace(/\s+/g, ' ')).toContain(text.trim());
  expect(() => escaped('ü')).toThrow('no roff for "ü" of: ü');
});
