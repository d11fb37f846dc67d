import { execFile } from 'node:child_process';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const run = promisify(execFile);
const packages = fileURLToPath(new URL('../../packages/', import.meta.url));
const examples = fileURLToPath(new URL('..', import.meta.url));
const OPENING_PROGRAM = /^# [^\n]*\n\n(?:[^`\n][^\n]*\n)*\n?```js\n(.*?)```/s;

/**
 * Each package's README opens with a program, after a paragraph at the most; it is run as it stands, from a folder that
 * has all the packages installed, as a user's has.
 */
it.each(await readdir(packages))('the program that opens the README of %s runs', async (name) => {
  const text = await readFile(join(packages, name, 'README.md'), 'utf8');
  const program = OPENING_PROGRAM.exec(text)?.[1];
  expect(program, 'the README opens with a program').toBeDefined();
  const file = join(examples, `readme-of-${name}.tmp.mjs`);
  await writeFile(file, program!);
  try {
    const { stdout } = await run(process.execPath, [file], { timeout: 30_000 });
    expect(stdout).not.toBe('');
  } finally {
    await rm(file);
  }
});
