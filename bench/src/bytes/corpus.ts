import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Parts } from './mutate.js';

// Built, this is in dist/; the source is a folder deeper.
const HERE = fileURLToPath(new URL('.', import.meta.url));
const CORPUS = join(HERE, HERE.endsWith('bytes/') ? '../../corpus' : '../corpus');

/**
 * The inputs kept for a target: a file each, in hexadecimal, a part of a message on each line; what follows `#` is a
 * remark.
 */
export function readCorpus(target: string): Parts[] {
  const folder = join(CORPUS, target);
  const names = readdirSync(folder).filter((name) => name.endsWith('.hex'));
  return names.sort().map((name) => parse(readFileSync(join(folder, name), 'utf8')));
}

function parse(text: string): Parts {
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').replaceAll(/\s/g, ''));
  return lines.filter((line) => line !== '').map((line) => Buffer.from(line, 'hex'));
}
