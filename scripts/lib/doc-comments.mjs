/** The words of comments in TypeScript, for pages that are made from the code. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { ROOT } from './workspace.mjs';

export const parse = (path) =>
  ts.createSourceFile(path, readFileSync(join(ROOT, path), 'utf8'), ts.ScriptTarget.Latest, true);

/** The words of a node's comment, on one line; undefined where it has none. */
export function wordsOf(node) {
  const doc = ts.getJSDocCommentsAndTags(node).find(ts.isJSDoc);
  const text = typeof doc?.comment === 'string' ? doc.comment : ts.getTextOfJSDocComment(doc?.comment);
  return text
    ?.replace(/\{@link (\w+)\}/g, '`$1`')
    .replace(/\s+/g, ' ')
    .trim();
}

/** The comments of all members of object literals in a file, by the member's name; the first one counts. */
export function comments(path) {
  const found = new Map();
  const visit = (node) => {
    if (ts.isPropertyAssignment(node)) {
      const name = ts.isStringLiteral(node.name) ? node.name.text : node.name.getText();
      const text = wordsOf(node);
      if (text && !found.has(name)) found.set(name, text);
    }
    ts.forEachChild(node, visit);
  };
  visit(parse(path));
  return found;
}
