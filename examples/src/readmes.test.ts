import { execFile } from 'node:child_process';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);
const packages = fileURLToPath(new URL('../../packages/', import.meta.url));
const examples = fileURLToPath(new URL('..', import.meta.url));
const OPENING_PROGRAM = /^# [^\n]*\n\n(?:[^`\n][^\n]*\n)*\n?```js\n(.*?)```/s;

const IMPORT = /^import (\{[^}]*\}) from ('[^']+');$/gm;

/** The program as CommonJS: what it imports is required, and its top level is a function that may wait. */
function asCommonJs(program: string): string {
  const body = program.replace(IMPORT, (_, names, from) => `const ${names} = require(${from});`);
  return `void (async () => {\n${body}\n})();\n`;
}

const forms = [
  ['an ES module', 'mjs', (program: string) => program],
  ['CommonJS', 'cjs', asCommonJs],
] as const;

/**
 * Each package's README opens with a program, after a paragraph at the most; it is run as it stands, from a folder that
 * has all the packages installed, as a user's has. Both builds of the packages must carry it.
 */
describe.each(await readdir(packages))('the program that opens the README of %s', (name) => {
  it.each(forms)('runs as %s', async (_form, extension, convert) => {
    const text = await readFile(join(packages, name, 'README.md'), 'utf8');
    const program = OPENING_PROGRAM.exec(text)?.[1];
    expect(program, 'the README opens with a program').toBeDefined();
    const file = join(examples, `readme-of-${name}.tmp.${extension}`);
    await writeFile(file, convert(program!));
    try {
      const { stdout } = await run(process.execPath, [file], { timeout: 30_000 });
      expect(stdout).not.toBe('');
    } finally {
      await rm(file);
    }
  });
});
