/** The settings of xen-blockd with the words of their comments, for pages that are made from the code. */
import { importBundled } from './bundled.mjs';
import { comments } from './doc-comments.mjs';

export const APP = 'apps/xen-blockd';
const CONFIG = `${APP}/src/daemon/config.ts`;

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
