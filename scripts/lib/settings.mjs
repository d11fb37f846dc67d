/** The settings of xen-blockd with the words of their comments, for pages that are made from the code. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { importBundled } from './bundled.mjs';
import { ROOT } from './workspace.mjs';

export const APP = 'apps/xen-blockd';
const CONFIG = `${APP}/src/daemon/config.ts`;

const parse = (path) => ts.createSourceFile(path, readFileSync(join(ROOT, path), 'utf8'), ts.ScriptTarget.Latest, true);

/** The comments of all members of object literals in a file, by the member's name; the first one counts. */
export function comments(path) {
  const found = new Map();
  const visit = (node) => {
    if (ts.isPropertyAssignment(node)) {
      const name = ts.isStringLiteral(node.name) ? node.name.text : node.name.getText();
      const doc = ts.getJSDocCommentsAndTags(node).find(ts.isJSDoc);
      const text = typeof doc?.comment === 'string' ? doc.comment : ts.getTextOfJSDocComment(doc?.comment);
      if (text && !found.has(name)) found.set(name, text.replace(/\s+/g, ' ').trim());
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(path));
  return found;
}

/**
 * In the order of the schema; `text` is Markdown, `allowed` says what a value may be, `value` is the default. Error: a setting
 * without a comment.
 */
export async function settings() {
  const { CONFIG_KEYS, DEFAULTS, ALLOWED } = await importBundled(`export * from './daemon/config.js';`, APP);
  const words = comments(CONFIG);
  return CONFIG_KEYS.map((key) => {
    const text = words.get(key);
    if (text === undefined) throw new Error(`${CONFIG}: ${key} of the schema has no comment`);
    return { key, text, allowed: ALLOWED[key], value: DEFAULTS[key] };
  });
}
