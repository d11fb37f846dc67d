/** Checks that the files which docs/ names are there: a path in backquotes with a folder in it, below packages/ or the root. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../lib/workspace.mjs';

const PATH = /`((?:[\w.-]+\/)+[\w.-]+\.(?:ts|mjs|cc|c|h|sh))`/g;

export async function checkDocumentedPaths() {
  const missing = [];
  for (const page of readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'))) {
    for (const [, path] of readFileSync(join(ROOT, 'docs', page), 'utf8').matchAll(PATH)) {
      if (!existsSync(join(ROOT, path)) && !existsSync(join(ROOT, 'packages', path)))
        missing.push(`docs/${page}: ${path}`);
    }
  }
  if (missing.length > 0)
    throw Object.assign(new Error(`${missing.length} files do not exist`), { output: missing.join('\n') });
}
