/**
 * Checks that the files which docs/, README and CONTRIBUTING name are there: a path in backquotes with a folder in it,
 * below packages/ or the root.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/workspace.mjs';

const PATH = /`((?:[\w.-]+\/)+[\w.-]+\.(?:ts|mjs|cc|c|h|sh))`/g;

export async function checkDocumentedPaths() {
  const missing = [];
  const docs = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));
  for (const page of ['README.md', 'CONTRIBUTING.md', ...docs.map((name) => `docs/${name}`)]) {
    for (const [, path] of readFileSync(join(ROOT, page), 'utf8').matchAll(PATH)) {
      if (!existsSync(join(ROOT, path)) && !existsSync(join(ROOT, 'packages', path))) missing.push(`${page}: ${path}`);
    }
  }
  if (missing.length > 0)
    throw Object.assign(new Error(`${missing.length} files do not exist`), { output: missing.join('\n') });
}
