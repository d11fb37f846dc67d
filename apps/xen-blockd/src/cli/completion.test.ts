import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
  });

  needs('zsh').it('zsh takes its script', async () => {
    execFileSync('zsh', ['-n', await scriptOf('zsh')]);
  });

  needs('fish').it('fish is offered what --help shows', async () => {
    const script = await scriptOf('fish');
    const fish = (line: string) =>
      execFileSync('fish', ['--no-config', '-c', `source ${script}; complete -C ${JSON.stringify(line)}`], {
        encoding: 'utf8',
        env: { ...process.env, HOME: directory },
      })
        .split('\n')
        .map((one) => one.split('\t')[0])
        .filter(Boolean);
    expect(fish('xen-blockd re')).toEqual(['refresh', 'resize', 'resume']);
    expect(fish('xen-blockd run --type v').sort()).toEqual(['vbd', 'vbd3']);
    expect(fish('xen-blockd run --on-e')).toEqual(['--on-error']);
    expect(fish('xen-blockd list --state h')).toEqual(['held']);
  });

  it('a shell that is not known is wrong usage', async () => {
    expect(await runBlockd('completion', 'csh')).toMatchObject({ code: 2, stdout: '' });
    expect(await runBlockd('completion')).toMatchObject({ code: 2, stdout: '' });
  });
});
