/**
 * docs/diagnostics.md, every diagnostics channel with its payload, made from each package's src/diagnostics.ts. A payload is
 * an interface whose comment says on which channels it is published. `node scripts/diagnostics-page.mjs` writes the page;
 * `npm test` checks that it is in step, and that no channel is made elsewhere or goes without a payload.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { filesBelow, publishedPackages, ROOT, workspacePackages } from './lib/workspace.mjs';

const PAGE = join(ROOT, 'docs', 'diagnostics.md');
const CHANNEL = /`([a-z-]+:[a-z-]+:[a-z-]+)`/g;

const HEAD = `# Diagnostics channels

The libraries never log. They publish on [node:diagnostics_channel](https://nodejs.org/api/diagnostics_channel.html), at no
cost where nobody subscribes; the daemon's log and its tests are subscribers. Each package's channels and the types of
their payloads are in its \`diagnostics.ts\`; this page is made from them by \`node scripts/diagnostics-page.mjs\`.

\`\`\`ts
import { subscribe } from 'node:diagnostics_channel';
import type { DeviceStateEvent } from '@xenpv/xenbus';

subscribe('xenbus:device:state', (message) => {
  const { address, to } = message as DeviceStateEvent;
  console.log(address, to);
});
\`\`\`
`;

/** The text of a node's documentation comment, on one line. */
function comment(node) {
  const found = ts.getJSDocCommentsAndTags(node).find(ts.isJSDoc);
  const text = typeof found?.comment === 'string' ? found.comment : ts.getTextOfJSDocComment(found?.comment);
  return (text ?? '').replace(/\s+/g, ' ').trim();
}

/** The payloads of one file: name, comment, channels, members. */
function payloads(path) {
  const source = ts.createSourceFile(path, readFileSync(join(ROOT, path), 'utf8'), ts.ScriptTarget.Latest, true);
  return source.statements.filter(ts.isInterfaceDeclaration).map((declaration) => {
    const text = comment(declaration);
    return {
      name: declaration.name.text,
      text,
      channels: [...text.matchAll(CHANNEL)].map(([, name]) => name),
      members: declaration.members.map((member) => ({
        name: member.name.getText(source) + (member.questionToken ? '?' : ''),
        type: member.type.getText(source).replace(/\s+/g, ' '),
        text: comment(member),
      })),
    };
  });
}

/** The names that a file makes channels of. */
function channelsMade(path) {
  const text = readFileSync(join(ROOT, path), 'utf8');
  return [...text.matchAll(/\bchannel\(\s*'([^']+)'/g)].map(([, name]) => name);
}

function section({ manifest, folder }) {
  const path = `${folder}/src/diagnostics.ts`;
  const found = payloads(path).filter(({ channels }) => channels.length > 0);
  const parts = found.map(({ name, text, channels, members }) => {
    const rows = members.map(
      (member) => `- \`${member.name}\`: \`${member.type}\`${member.text && `. ${member.text}`}`,
    );
    return `### ${channels.map((channel) => `\`${channel}\``).join(', ')}\n\n\`${name}\`: ${text}\n\n${rows.join('\n')}\n`;
  });
  return `## ${manifest.name}\n\n${parts.join('\n')}`;
}

/** The page as it should be. Errors: a channel that is made elsewhere, or has no payload. */
function page() {
  const packages = workspacePackages().filter(({ folder }) => existsSync(join(ROOT, folder, 'src', 'diagnostics.ts')));
  const told = new Set(
    packages.flatMap(({ folder }) => payloads(`${folder}/src/diagnostics.ts`)).flatMap(({ channels }) => channels),
  );
  // What is not published only listens, or pretends that something happened, as the planted defects of bench do.
  for (const { folder } of publishedPackages()) {
    for (const path of filesBelow(folder).filter((name) => /\/src\/.*\.ts$/.test(name) && !/\.test\.ts$/.test(name))) {
      for (const name of channelsMade(path)) {
        if (!path.endsWith('/src/diagnostics.ts'))
          throw new Error(`${path} makes ${name}: its place is src/diagnostics.ts`);
        if (!told.has(name)) throw new Error(`${path}: no payload says that it is published on \`${name}\``);
      }
    }
  }
  return [HEAD, ...packages.map(section)].join('\n');
}

export async function checkDiagnosticsPage() {
  if (readFileSync(PAGE, 'utf8') !== page()) {
    throw new Error('docs/diagnostics.md is out of step with the code: node scripts/diagnostics-page.mjs');
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(PAGE, page());
