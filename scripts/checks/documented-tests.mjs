/**
 * Checks that the tests which docs/ names are there and passed. A link to a test file has the test's title as its text:
 * for a file that vitest ran, a test of that name must have passed, or been skipped for a need that its title tells; for
 * one of the lab, the file must have the title.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { ROOT } from '../lib/workspace.mjs';

const LINK = /\[([^\]]+)\]\((\.\.\/[^)]+\.(?:test\.ts|mjs))\)/g;

/** `testResults` are those of vitest's JSON reporter. */
export function checkDocumentedTests(testResults) {
  const folder = join(ROOT, 'docs');
  const ran = new Map(testResults.map(({ name, assertionResults }) => [relative(ROOT, name), assertionResults]));
  const wrong = [];
  let found = 0;
  for (const page of readdirSync(folder).filter((name) => name.endsWith('.md'))) {
    for (const [, title, link] of readFileSync(join(folder, page), 'utf8').matchAll(LINK)) {
      found++;
      const path = relative(ROOT, resolve(folder, link));
      const problem = path.endsWith('.test.ts') ? ranProblem(ran.get(path), path, title) : textProblem(path, title);
      if (problem) wrong.push(`${page}: "${title}" in ${path}: ${problem}`);
    }
  }
  if (wrong.length > 0) {
    throw Object.assign(new Error(`${wrong.length} tests that docs name`), { output: wrong.join('\n') });
  }
  return `${found} links`;
}

function ranProblem(tests, path, title) {
  if (!tests) return 'the file was not run';
  const named = tests.filter(({ fullName }) => fullName.includes(title));
  // A row of a table within a test has no name of its own.
  if (named.length === 0) return textProblem(path, title);
  if (named.some(({ status }) => status === 'failed')) return 'failed';
  return undefined;
}

function textProblem(path, title) {
  if (!existsSync(join(ROOT, path))) return 'there is no such file';
  return readFileSync(join(ROOT, path), 'utf8').includes(title) ? undefined : 'the file has no such title';
}
