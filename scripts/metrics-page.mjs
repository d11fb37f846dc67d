/**
 * docs/metrics.md, every metric of the daemon, made from its catalogue. `node scripts/metrics-page.mjs` writes the page;
 * `npm test` checks that it is in step. That the daemon exports just these is a test of the daemon.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { importData } from './lib/data-module.mjs';
import { ROOT } from './lib/workspace.mjs';

const CATALOGUE = 'apps/xen-blockd/src/status/metrics/catalogue.ts';
const PAGE = join(ROOT, 'docs', 'metrics.md');

const HEAD = `# Metrics

What \`GET /metrics\` answers where the configuration says \`metrics = "localhost:9105"\`. How to have them scraped, and what
alarms there are, is in [operations.md](operations.md#figures-and-alarms). This page is made from
\`${CATALOGUE}\` by \`node scripts/metrics-page.mjs\`.

Values of a disk have the labels \`device\` (\`qdisk-5-51712\`, as \`xen-blockd list\` shows it), \`domid\` and \`vdev\`, and go
with the disk. Counters begin at 0 with each daemon. A domid is another one after each boot of the
guest; \`xen_blockd_disk_info\` has the guest's name to join with:

\`\`\`
sum by (guest) (rate(xen_blockd_bytes_total[5m]) * on (job, instance, device) group_left (guest) xen_blockd_disk_info)
\`\`\`
`;

function table(families) {
  const rows = Object.entries(families).map(([name, { type, help }]) => `| \`${name}\` | ${type} | ${help} |`);
  return ['| metric | type | is |', '|---|---|---|', ...rows].join('\n');
}

const words = (labels) => labels.map((label) => `\`${label}\``).join(', ');

/** The page as it should be. */
async function page() {
  const catalogue = await importData(CATALOGUE);
  const { INFO, OF_DISKS, OF_OPERATIONS, DURATIONS, ERRORS, OF_GUESTS, OF_DAEMON } = catalogue;
  const { DISK_INFO_LABELS, BUILD_INFO_LABELS, DISK_LABELS, OPERATION_LABELS, ERROR_LABELS, GUEST_LABELS } = catalogue;
  const sections = [
    [
      'What there is',
      `\`xen_blockd_disk_info\` has the labels ${words(DISK_INFO_LABELS)}; \`xen_blockd_build_info\` has ${words(BUILD_INFO_LABELS)}.`,
      INFO,
    ],
    ['Disks', `Labels: ${words(DISK_LABELS)}.`, OF_DISKS],
    [
      'Requests',
      `Labels: ${words(OPERATION_LABELS)}. \`operation\` is \`read\`, \`write\`, \`flush\` or \`discard\`; a barrier is a write.`,
      OF_OPERATIONS,
    ],
    [
      'Times',
      `Labels: ${words(OPERATION_LABELS)}, and \`le\` in buckets from 32 microseconds to 8.4 seconds, each twice the one before. Where reading the clock is dear, some requests stand for all.`,
      DURATIONS,
    ],
    ['Errors', `Labels: ${words(ERROR_LABELS)}. There is a value for each errno that has occurred.`, ERRORS],
    ['Guests', `Labels: ${words(GUEST_LABELS)}. What a guest makes the daemon do in xenstore.`, OF_GUESTS],
    ['The daemon', 'Without labels.', OF_DAEMON],
  ];
  return [HEAD, ...sections.map(([title, text, families]) => `## ${title}\n\n${text}\n\n${table(families)}\n`)].join(
    '\n',
  );
}

export async function checkMetricsPage() {
  if (readFileSync(PAGE, 'utf8') !== (await page())) {
    throw new Error('docs/metrics.md is out of step with the code: node scripts/metrics-page.mjs');
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(PAGE, await page());
