import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

interface Block {
  readonly line: number;
  readonly section: string;
  readonly language: string;
  readonly text: string;
  readonly lab?: { readonly guest?: string; readonly file?: string; readonly soon: boolean; readonly vary: boolean };
  readonly why?: string;
}

/** What the lab runs the page by. */
interface Document {
  codeBlocks(markdown: string): Block[];
  commandsOf(block: Block): { readonly command: string; readonly printed?: string[] }[];
  isShown(shown: readonly string[], printed: string, options?: { readonly vary?: boolean }): boolean;
}

const root = new URL('../../../', import.meta.url);
const { codeBlocks, commandsOf, isShown } = (await import(new URL('e2e/dom0/document.mjs', root).href)) as Document;

const fenced = (info: string, text: string) => `## Here\n\n\`\`\`${info}\n${text}\n\`\`\`\n`;

describe('the commands of the page for operators', () => {
  it('say of each block whether the lab runs it, and if not, why', () => {
    const blocks = codeBlocks(readFileSync(new URL('docs/operations.md', root), 'utf8'));
    const commands = blocks.filter(({ language }) => ['sh', 'console'].includes(language));
    expect(commands.length).toBeGreaterThan(20);
    for (const { lab, why } of commands) expect(lab ?? why).toBeDefined();
  });

  it('of installing are what README has in a line', () => {
    const [line = ''] = readFileSync(new URL('README.md', root), 'utf8').match(/^- \*\*Operators\*\*.*(\n .*)*/m) ?? [];
    const told = [...line.matchAll(/`((?:apt|npm) install .+?)`/g)].map(([, command]) => command);
    expect(told).toHaveLength(2);
    const blocks = codeBlocks(readFileSync(new URL('docs/operations.md', root), 'utf8'));
    const installing = blocks.filter(({ section }) => section === 'Installing').map(({ text }) => text);
    const lines = installing.join('\n').split('\n');
    expect(told.filter((command) => !lines.includes(command))).toEqual([]);
  });

  it('are found with their heading, which is not a line of a block', () => {
    const page = fenced('console lab', '# date\n## no heading') + fenced('sh lab in web1, soon', 'true');
    expect(codeBlocks(page)).toMatchObject([
      { section: 'Here', line: 3, lab: { soon: false, vary: false } },
      { section: 'Here', line: 9, lab: { guest: 'web1', soon: true } },
    ]);
  });

  it.each([
    ['sh', /line 3: does the lab run these commands/],
    ['console', /line 3: does the lab run these commands/],
    ['sh lap', /line 3: "lap": expected "lab"/],
    ['sh lab in', /"lab in": expected/],
    ['sh lab, sooner', /"sooner": expected/],
    ['sh lab, ended after 5', /"ended after 5": expected/],
    ['sh not run:', /"not run:": expected/],
  ])('refuse a fence that says "%s"', (info, message) => {
    expect(() => codeBlocks(fenced(info, 'true'))).toThrow(message);
  });

  it('are the lines of sh but for comments, and what follows a prompt of console', () => {
    const [sh] = codeBlocks(fenced('sh lab', '# why\nlist   # all\n\nshow x'));
    expect(commandsOf(sh)).toEqual([{ command: 'list   # all' }, { command: 'show x' }]);
    const [console] = codeBlocks(fenced('console lab', '# list\nno disks\n# true'));
    expect(commandsOf(console)).toEqual([
      { command: 'list', printed: ['no disks'] },
      { command: 'true', printed: [] },
    ]);
  });

  it('printed what is shown: line by line, whatever the blanks, and the numbers only where they vary', () => {
    expect(isShown(['size  mode', '2.0 GiB  rw'], 'size mode\n2.0 GiB    rw\n')).toBe(true);
    expect(isShown(['2.0 GiB'], '3.0 GiB\n')).toBe(false);
    expect(isShown(['2.0 GiB'], '3 GiB\n', { vary: true })).toBe(true);
    expect(isShown(['2.0 GiB'], '3 MiB\n', { vary: true })).toBe(false);
    expect(isShown(['for 12 s'], 'for 1 min 3 s\n', { vary: true })).toBe(true);
    expect(isShown(['for 12 s, again'], 'for 2 d 3 h, again\n', { vary: true })).toBe(true);
    expect(isShown(['after 0.31 s'], 'after 5 min\n', { vary: true })).toBe(true);
    expect(isShown(['after 0.31 s'], 'after 5 KiB\n', { vary: true })).toBe(false);
    expect(isShown(['one'], 'one\ntwo\n')).toBe(false);
    expect(isShown(['one', 'two'], 'one\n')).toBe(false);
    expect(isShown(['one', '...', 'four'], 'one\ntwo\nthree\nfour\n')).toBe(true);
    expect(isShown(['one', '...'], 'two\n')).toBe(false);
    expect(isShown(['in ... s'], 'in 5.3 s\n')).toBe(true);
    expect(isShown(['a.c (x)'], 'abc (x)\n')).toBe(false);
    expect(isShown([], '')).toBe(true);
    expect(isShown([], 'warning\n')).toBe(false);
  });
});
