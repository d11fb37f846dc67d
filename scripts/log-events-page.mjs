/**
 * docs/log-events.md, the kinds of lines of the daemon's log with their ids in systemd's journal, made from their table.
 * `node scripts/log-events-page.mjs` writes the page; `npm test` checks that it is in step.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { importData } from './lib/data-module.mjs';
import { ROOT } from './lib/workspace.mjs';

const TABLE = 'apps/xen-blockd/src/log/journal/log-events.ts';
const PAGE = join(ROOT, 'docs', 'log-events.md');

const HEAD = `# Lines of the log

Each kind of line of the daemon's log has a \`MESSAGE_ID\` in systemd's journal, which stays the same whatever the line
says: \`journalctl -u xen-blockd MESSAGE_ID=...\`. Lines of disks and images have the name of their kind as well: as
\`XEN_BLOCKD_EVENT\` in the journal, and as \`event\` in JSON. Names with colons are the libraries' channels, see
[diagnostics.md](diagnostics.md); the other names are what the line begins with. How to look for lines is in
[operations.md](operations.md#the-journal). This page is made from \`${TABLE}\` by
\`node scripts/log-events-page.mjs\`.
`;

function section(title, events) {
  const rows = Object.entries(events).map(([kind, { id, tells }]) => `| ${tells} | \`${kind}\` | \`${id}\` |`);
  return `## ${title}\n\n| tells | kind | MESSAGE_ID |\n|---|---|---|\n${rows.join('\n')}\n`;
}

/** The page as it should be. */
async function page() {
  const { DISK_EVENTS, REQUEST_EVENTS, STORAGE_EVENTS, DAEMON_EVENTS } = await importData(TABLE);
  const sections = [
    section('Disks', DISK_EVENTS),
    section('Requests', REQUEST_EVENTS),
    section('Storage', STORAGE_EVENTS),
    section('The daemon', DAEMON_EVENTS),
  ];
  return [HEAD, ...sections].join('\n');
}

export async function checkLogEventsPage() {
  if (readFileSync(PAGE, 'utf8') !== (await page())) {
    throw new Error('docs/log-events.md is out of step with the code: node scripts/log-events-page.mjs');
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(PAGE, await page());
