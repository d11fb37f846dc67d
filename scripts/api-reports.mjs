/**
 * api.md of each library, what its users see. `node scripts/api-reports.mjs` writes them; `npm test` checks that they are
 * in step with the types, so that no change of these goes unseen.
 */
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { apiReports, checkedInReport, reportPath } from './lib/api-report.mjs';
import { differences } from './lib/differences.mjs';
import { readArguments, usageError } from './lib/program.mjs';

const USAGE = `usage: node scripts/api-reports.mjs [--check] [PACKAGE_FOLDER ...]

Writes api.md of these libraries, or of all, from the types in their dist; "npm run build" makes those.

  --check  writes nothing, and ends with 1 where a report is not what it would be, or an optional property's type does
           not say "| undefined"
  --help   this text
`;

/** Resolves with a note. Errors: one that has what differs as `output`. */
export async function checkApiReports(reports = apiReports()) {
  const strict = reports.flatMap(({ folder, strictOptions }) => strictOptions.map((option) => `${folder}: ${option}`));
  if (strict.length > 0) {
    const message = 'under exactOptionalPropertyTypes nobody can hand on an option of these that he was not given';
    throw Object.assign(new Error(message), { output: strict.join('\n') });
  }
  const problems = reports.flatMap(({ folder, text }) => {
    const lines = differences(checkedInReport(folder), text);
    return lines.length === 0 ? [] : [`${folder}/api.md:`, ...lines.map((line) => `  ${line}`)];
  });
  if (problems.length === 0) return `${reports.length} reports`;
  throw Object.assign(
    new Error('what users see has changed; if that is meant, run node scripts/api-reports.mjs, and add a changeset'),
    { output: problems.join('\n') },
  );
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals } = readArguments(
    USAGE,
    { check: { type: 'boolean', default: false } },
    { positionals: true },
  );
  const folders = positionals.length > 0 ? positionals.map((folder) => folder.replace(/\/$/, '')) : undefined;
  const reports = apiReports(folders);
  const unknown = folders?.find((folder) => !reports.some((report) => report.folder === folder));
  if (unknown !== undefined)
    usageError(USAGE, `${unknown} is no library of this workspace; packages/ring would be one`);
  if (values.check) {
    await checkApiReports(reports).then(console.log, ({ output, message }) => {
      console.log(`${output}\n${message}`);
      process.exitCode = 1;
    });
  } else {
    for (const { folder, text } of reports) {
      if (checkedInReport(folder) === text) continue;
      writeFileSync(reportPath(folder), text);
      console.log(`wrote ${folder}/api.md`);
    }
  }
}
