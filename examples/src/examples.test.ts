import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);

describe('each example runs as it stands', () => {
  it.each([
    ['shout-backend', 'A WHOLE BACKEND, AND NO BLOCK DEVICE\n'],
    ['console-backend', 'hello root\nwritten while nobody served\nfrom a new ring\n'],
    [
      'vkbd-backend',
      '"jump": key, move or at, and two numbers, as in: key 30 1; 3 events, the last 4 100 -200\n' +
        'ok; 200 events, the last 1 199 0\nok; 1 events, the last 259 31 0\nok; 1 events, the last 259 32 0\n',
    ],
    ['serve-memory', '67108864 bytes; sector 8 says: written by a guest\n'],
    ['follow-xenstore', 'counted to three\n/tool/counter is 3\n'],
  ])('%s', async (name, expected) => {
    const program = fileURLToPath(new URL(`../dist/${name}.js`, import.meta.url));
    const { stdout, stderr } = await run(process.execPath, [program]);
    expect({ stdout, stderr }).toEqual({ stdout: expected, stderr: '' });
  });
});

// README.md says so. Blank lines and comments count, as in `wc -l`: it is what one has to read.
it.each(['console', 'vkbd'])('the %s backend, both ends, has no more than 150 lines', (name) => {
  const source = readFileSync(new URL(`${name}-backend.ts`, import.meta.url), 'utf8');
  expect(source.match(/\n/g)?.length).toBeLessThanOrEqual(150);
});
