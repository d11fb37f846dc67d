/**
 * docs/reference.md, every setting, every command and event of the control socket and every key of xenstore, made from the
 * code: what is allowed and the members are those that it checks by, the words are the comments there. `node scripts/reference-page.mjs`
 * writes the page; `npm test` checks that it is in step, and that nothing goes without words.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { importBundled } from './lib/bundled.mjs';
import { comments, parse, wordsOf } from './lib/doc-comments.mjs';
import { APP, settings } from './lib/settings.mjs';
import { ROOT } from './lib/workspace.mjs';

const COMMANDS = `${APP}/src/control/commands`;
const EVENTS = `${APP}/src/control/events.ts`;
const KEYS = 'packages/blkif/src/keys.ts';
const PAGE = join(ROOT, 'docs', 'reference.md');

const HEAD = `# Settings, QMP commands and keys of xenstore

This page is made from the daemon's code by \`node scripts/reference-page.mjs\`. How settings are used is in
[operations.md](operations.md#configuration), metrics in [metrics.md](metrics.md), log lines in [log-events.md](log-events.md).
`;

const SETTINGS_HEAD = `## Settings

Keys of \`/etc/xen-blockd.toml\`. All are optional. "–": without the key there is none, or as the text says.

| key | is | allowed | default |
|---|---|---|---|`;

const COMMANDS_HEAD = `## Commands

Of the control socket, in QEMU's machine protocol. Those with \`x-\` in front are our own; the others are QEMU's, with its members.
A name that ends in \`?\` may be left out. \`size\` is a whole number from 0 on, of bytes unless its name says otherwise. Besides these, each
QMP server has \`qmp_capabilities\`, \`query-version\`, \`query-commands\` and \`query-qmp-schema\`. How to talk to it is in
[operations.md](operations.md#control-by-qmp).
`;

const EVENTS_HEAD = `## Events

Every client that has negotiated gets them. \`device\` is the disk's name, or the \`id\` of its \`device_add\`.
`;

const KEYS_HEAD = `## Keys of xenstore

Of a disk's two directories, \`/local/domain/<backend>/backend/<type>/<domid>/<devid>\` and \`/local/domain/<domid>/device/vbd/<devid>\`.
\`uint\` is a whole number from 0 on, \`boolean\` 0 or 1. Sizes are in bytes unless the text says otherwise. \`xen-blockd show DISK\` has those of a disk.
`;

const cell = (text) => text.replaceAll('|', '\\|');
const code = (text) => `\`${text}\``;

async function settingsTable() {
  const rows = (await settings()).map(({ key, text, allowed, value }) => {
    const given = value === undefined ? '–' : code(JSON.stringify(value));
    return `| ${code(key)} | ${cell(text)} | ${cell(allowed)} | ${given} |`;
  });
  return `${SETTINGS_HEAD}\n${rows.join('\n')}\n`;
}

/** A type of QAPI in words. */
function typeText(type) {
  if (typeof type === 'string') return type;
  if ('enum' in type) return type.enum.map((value) => `"${value}"`).join(' or ');
  if ('array' in type) return `[${typeText(type.array)}]`;
  return `{ ${membersText(type.object)} }`;
}

const membersText = (members) =>
  Object.entries(members)
    .map(([name, type]) => `${name}: ${typeText(type)}`)
    .join(', ');

const isNothing = (type) => typeof type === 'object' && 'object' in type && Object.keys(type.object).length === 0;

async function commands() {
  const found = readdirSync(join(ROOT, COMMANDS), { recursive: true }).sort();
  const files = found.filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  const words = new Map(files.flatMap((name) => [...comments(`${COMMANDS}/${name}`)]));
  const imports = files.map((name, i) => `import * as m${i} from './control/commands/${name.replace('.ts', '.js')}';`);
  const modules = `export const modules = [${files.map((_, i) => `m${i}`).join(', ')}];`;
  const { modules: loaded } = await importBundled(`${imports.join('\n')}\n${modules}`, APP);
  const makers = loaded.flatMap((module) => Object.entries(module).filter(([name]) => name.endsWith('Commands')));
  const all = makers.flatMap(([, make]) => Object.entries(make({}, () => {})));
  const isOurs = ([name]) => name.startsWith('x-');
  const sorted = [...all].sort((a, b) => isOurs(a) - isOurs(b) || (a[0] < b[0] ? -1 : 1));
  const sections = sorted.map(([name, { members, returns }]) => {
    const text = words.get(name);
    if (text === undefined) throw new Error(`${COMMANDS}: ${name} has no comment`);
    const takes = Object.entries(members).map(([member, type]) => `- ${code(`${member}: ${typeText(type)}`)}`);
    const gives = isNothing(returns) ? [] : [`- returns ${code(typeText(returns))}`];
    return `### ${name}\n\n${[text, [...takes, ...gives].join('\n')].filter(Boolean).join('\n\n')}\n`;
  });
  return [COMMANDS_HEAD, ...sections].join('\n');
}

async function events() {
  const { EVENTS: all } = await importBundled(`export { EVENTS } from './control/events.js';`, APP);
  const words = comments(EVENTS);
  const rows = Object.entries(all).map(([name, members]) => {
    const text = words.get(name);
    if (text === undefined) throw new Error(`${EVENTS}: ${name} has no comment`);
    return `| ${code(name)} | ${cell(text)} | ${code(cell(membersText(members)))} |`;
  });
  return `${EVENTS_HEAD}\n| event | tells | members |\n|---|---|---|\n${rows.join('\n')}\n`;
}

/** The keys that a schema has itself. */
function ownKeys(initializer) {
  let object = initializer;
  while (ts.isSatisfiesExpression(object) || ts.isAsExpression(object)) object = object.expression;
  return ts.isObjectLiteralExpression(object) ? object.properties.filter(ts.isPropertyAssignment) : [];
}

async function keys() {
  const schemas = await importBundled(`export * from './keys.js';`, 'packages/blkif');
  const declared = parse(KEYS).statements.filter(ts.isVariableStatement);
  const sections = declared.flatMap((statement) => {
    const [{ name, initializer }] = statement.declarationList.declarations;
    const schema = schemas[name.text];
    const rows = ownKeys(initializer).map((property) => {
      const key = ts.isStringLiteral(property.name) ? property.name.text : property.name.getText();
      const text = wordsOf(property);
      if (text === undefined) throw new Error(`${KEYS}: ${key} has no comment`);
      return `| ${code(key)} | ${schema[key].type} | ${cell(text)} |`;
    });
    if (schema === undefined || rows.length === 0) return [];
    return `${wordsOf(statement)}\n\n| key | is | tells |\n|---|---|---|\n${rows.join('\n')}\n`;
  });
  return [KEYS_HEAD, ...sections].join('\n');
}

/** The page as it should be. Errors: a setting, command, event or key without a comment. */
async function page() {
  return [HEAD, await settingsTable(), await commands(), await events(), await keys()].join('\n');
}

export async function checkReferencePage() {
  if (readFileSync(PAGE, 'utf8') !== (await page())) {
    throw new Error('docs/reference.md is out of step with the code: node scripts/reference-page.mjs');
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(PAGE, await page());
