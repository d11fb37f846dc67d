import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runBlockd } from '../testing/process.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'completion-test-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** The script of a shell, in a file. */
async function scriptOf(shell: string): Promise<string> {
  const { code, stdout } = await runBlockd('completion', shell);
  expect(code).toBe(0);
  const path = join(directory, shell);
  writeFileSync(path, stdout);
  return path;
}

/** What bash offers for the last of these words. */
function offeredByBash(script: string, ...words: string[]): string[] {
  const program = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _xen_blockd; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const options = { encoding: 'utf8', cwd: directory } as const;
  return execFileSync('bash', ['-u', '-c', program, script, 'xen-blockd', ...words], options)
    .split('\n')
    .filter(Boolean);
}

/** What a zsh at a terminal makes of these lines, each with a Tab, when they are entered. */
function completedByZsh(lines: readonly string[]): string[] {
  const program = `zmodload zsh/zpty; zpty z zsh -f -i
zpty -w z "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; setopt no_beep"
zpty -w z 'xen-blockd() { print -r -- AR""GS: $* }; print REA""DY'
zpty -r z out '*READY*'
for line in "$@"; do
  zpty -w -n z "xen-blockd $line"$'\n'
  zpty -r z out $'*ARGS:*\\n'
  print -r -- "$out"
done
zpty -d z`;
  const printed = execFileSync('zsh', ['-fc', program, 'zsh', ...lines], {
    encoding: 'utf8',
    cwd: directory,
    timeout: 60_000,
  });
  return [...printed.matchAll(/ARGS:.*/g)].map(([line]) => line.trim());
}

describe('completion', () => {
  needs('bash').it('bash is offered what --help shows', async () => {
    const script = await scriptOf('bash');
    const bash = (...words: string[]) => offeredByBash(script, ...words);
    expect(bash('')).toEqual(expect.arrayContaining(['run', 'check', 'list', 'completion', 'help']));
    expect(bash('re')).toEqual(['refresh', 'resize', 'resume']);
    expect(bash('run', '--type', 'v')).toEqual(['vbd3', 'vbd']);
    expect(bash('run', '--type', '=', 'q')).toEqual(['qdisk']);
    expect(bash('run', '--type', '=')).toEqual(['qdisk', 'vbd3', 'vbd']);
    expect(bash('run', '--on-e')).toEqual(['--on-error']);
    expect(bash('run', '--config', 'ba')).toEqual(['bash']);
    expect(bash('run', '--threads', '')).toEqual([]);
    expect(bash('list', '--state', 'h')).toEqual(['held']);
    expect(bash('stats', '--watch', '--gu')).toEqual(['--guest']);
    expect(bash('completion', '')).toEqual(['bash', 'zsh', 'fish']);
    expect(bash('nonsense', '')).toEqual([]);
    expect(bash('trace', '')).toEqual(['replay']);
    expect(bash('trace', '--re')).toEqual([]);
    expect(bash('trace', 'replay', '--')).toEqual(
      expect.arrayContaining(['--fast', '--speed', '--overwrite', '--reads-only', '--depth', '--json']),
    );
    expect(bash('trace', 'replay', '--')).not.toContain('--op');
    expect(bash('trace', 'replay', 'ba')).toEqual(['bash']);
    expect(bash('trace', '--json', 'replay', 'bash', 'ba')).toEqual(['bash']);
    expect(bash('list', 'replay', '--fa')).toEqual([]);
  });

  needs('zsh').it('zsh takes its script', async () => {
    execFileSync('zsh', ['-n', await scriptOf('zsh')]);
  });

  needs('zsh').it('zsh completes what was typed, of a subcommand too', async () => {
    copyFileSync(await scriptOf('zsh'), join(directory, '_xen-blockd'));
    const zsh = (...lines: string[]) => completedByZsh(lines);
    expect(
      zsh('res\t', 'trace replay --fa\t', 'trace --que\t', 'trace --json replay --over\t', 'trace repl\t'),
    ).toEqual([
      'ARGS: res',
      'ARGS: trace replay --fast',
      'ARGS: trace --queue',
      'ARGS: trace --json replay --overwrite',
      'ARGS: trace replay',
    ]);
  });

  needs('fish').it('fish is offered what --help shows', async () => {
    const script = await scriptOf('fish');
    const fish = (line: string) =>
      execFileSync('fish', ['--no-config', '-c', `source ${script}; complete -C ${JSON.stringify(line)}`], {
        encoding: 'utf8',
        cwd: directory,
        env: { ...process.env, HOME: directory },
      })
        .split('\n')
        .map((one) => one.split('\t')[0])
        .filter(Boolean);
    expect(fish('xen-blockd re')).toEqual(['refresh', 'resize', 'resume']);
    expect(fish('xen-blockd run --type v').sort()).toEqual(['vbd', 'vbd3']);
    expect(fish('xen-blockd run --on-e')).toEqual(['--on-error']);
    expect(fish('xen-blockd list --state h')).toEqual(['held']);
    expect(fish('xen-blockd trace re')).toEqual(['replay']);
    expect(fish('xen-blockd trace replay --re')).toEqual(['--reads-only']);
    expect(fish('xen-blockd trace replay --que')).toEqual([]);
    expect(fish('xen-blockd trace --que')).toEqual(['--queue']);
    expect(fish('xen-blockd trace replay ba')).toEqual(expect.arrayContaining(['bash']));
  });

  it('a shell that is not known is wrong usage', async () => {
    expect(await runBlockd('completion', 'csh')).toMatchObject({ code: 2, stdout: '' });
    expect(await runBlockd('completion')).toMatchObject({ code: 2, stdout: '' });
  });
});
