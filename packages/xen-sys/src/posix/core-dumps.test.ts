import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { needs, working } from '@xenpv/test-support';
import { expect } from 'vitest';
import { loadAddon } from '../addon/addon.js';
import { packageRoot } from '../package-root.js';

const LIBRARY = fileURLToPath(new URL('dist/index.cjs', packageRoot()));
const otherUser = working('another user', () =>
  execFileSync('setpriv', ['--reuid=65534', 'node', '-e', `require(${JSON.stringify(LIBRARY)})`], { stdio: 'ignore' }),
);

/** What such a script prints, in a process of its own that could leave a core dump. */
function inProcess(script: string, under: readonly string[] = []): string {
  const program = `const { forbidCoreDumps } = require(${JSON.stringify(LIBRARY)}); const fs = require('node:fs'); ${script}`;
  const args = ['-c', 'ulimit -c $(ulimit -Hc); exec "$@"', 'sh', ...under, process.execPath, '-e', program];
  return execFileSync('sh', args, { encoding: 'utf8' }).trim();
}

needs(working('the native addon', loadAddon), 'Linux').describe('a process without core dumps', () => {
  needs().it('leaves none, and the programs that it runs neither', () => {
    const limit = `/^Max core file size\\s+(\\S+)\\s+(\\S+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1')).slice(1)`;
    const ofProgram = `require('node:child_process').execFileSync('sh', ['-c', 'ulimit -Hc'], { encoding: 'utf8' }).trim()`;
    const said = inProcess(`forbidCoreDumps(); forbidCoreDumps(); console.log(...${limit}, ${ofProgram})`);
    expect(said).toBe('0 0 0');
  });

  needs(otherUser, 'setpriv').it('shows its memory to root only', () => {
    const owner = `fs.statSync('/proc/self/mem').uid`;
    const said = inProcess(`console.log(${owner}); forbidCoreDumps(); console.log(${owner})`, [
      'setpriv',
      '--reuid=65534',
    ]);
    expect(said).toBe('65534\n0');
  });
});
