/**
 * `npm test`: sets the clone up, builds what can be built, and runs every check and every test of the workspace.
 * Ends with what skipped tests need, the totals, a line `N passed, N failed`, and exit code 1 if anything failed.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { checkCommonJs } from './checks/commonjs.mjs';
import { checkDocumentedPaths } from './checks/documented-paths.mjs';
import { checkDocumentedTests } from './checks/documented-tests.mjs';
import { checkFindings } from './checks/findings.mjs';
import { checkManifests } from './checks/manifests.mjs';
import { checkNativeBuilds } from './checks/native-builds.mjs';
import { DEBIAN, install } from './lib/debian.mjs';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { buildAddons, setup, TOOL_ENV, turbo } from './lib/setup.mjs';
import { skippedByNeed } from './lib/skipped.mjs';
import { run, seconds } from './lib/steps.mjs';
import { publishedPackages, ROOT } from './lib/workspace.mjs';
import { checkCodeSizes } from './release/sizes.mjs';

const USAGE = `usage: npm test [-- --install]

Sets the clone up, builds it, and runs every check and every test of the workspace.

  --install   first installs what the tests need of Debian (needs root and apt)
  --help      this text
`;

const bin = (name) => join(ROOT, 'node_modules', '.bin', name);
const RESULTS = join(ROOT, '.tools', 'vitest.json');

const checks = { passed: 0, failed: [] };

async function check(name, work) {
  const began = performance.now();
  try {
    const note = await work();
    checks.passed++;
    console.log(`ok    ${name} (${seconds(began)})${typeof note === 'string' ? `: ${note}` : ''}`);
  } catch (error) {
    checks.failed.push(name);
    console.log(`${error.output ?? error.stack}\nFAIL  ${name}: ${error.message}`);
  }
}

/** What needs no types. */
async function checkSources() {
  await check('native builds', checkNativeBuilds);
  await check('biome', () =>
    run('biome', bin('biome'), ['check', '--error-on-warnings', '.'], { cwd: ROOT }).then(() => undefined),
  );
  await check('manifests', checkManifests);
  await check('documented paths', checkDocumentedPaths);
  await check('findings by name', checkFindings);
  // Imported late: a fresh clone has their libraries only now.
  await check('diagnostics page', async () => (await import('./diagnostics-page.mjs')).checkDiagnosticsPage());
  await check('metrics page', async () => (await import('./metrics-page.mjs')).checkMetricsPage());
  await check('log events page', async () => (await import('./log-events-page.mjs')).checkLogEventsPage());
  await check('reference page', async () => (await import('./reference-page.mjs')).checkReferencePage());
  await check('man page', async () => (await import('./man-page.mjs')).checkManPage());
  await check('CommonJS builds', checkCommonJs);
  await check('size budgets', checkCodeSizes);
}

/** What needs the packages' types. */
async function checkTypes() {
  await check('types: build and check', () => turbo('types', ['build:types', 'typecheck']).then(() => undefined));
  await check('API reports', async () => (await import('./api-reports.mjs')).checkApiReports());
  await check('API documentation', async () => (await import('./api-docs.mjs')).checkApiDocs());
  await check('documented code', async () => (await import('./checks/documented-code.mjs')).checkDocumentedCode());
  await check('dependency rules', async () => (await import('./checks/dependencies.mjs')).checkDependencies());
  await check('knip', () => run('knip', bin('knip'), [], { cwd: ROOT, env: TOOL_ENV }).then(() => undefined));
  await check('publint and attw', checkPackages);
}

/** publint and attw on each package that is published, two at a time. */
async function checkPackages() {
  const published = publishedPackages();
  const failures = [];
  const work = published.map(
    ({ folder, manifest }) =>
      () =>
        checkPackage(folder, manifest).catch((error) => failures.push(error)),
  );
  await Promise.all(
    [0, 1].map(async () => {
      for (let next = work.pop(); next; next = work.pop()) await next();
    }),
  );
  if (failures.length === 0) return `${published.length} packages`;
  throw Object.assign(new Error(failures.map(({ message }) => message).join('; ')), {
    output: failures.map(({ output }) => output).join('\n'),
  });
}

async function checkPackage(folder, manifest) {
  const options = { cwd: join(ROOT, folder), env: TOOL_ENV };
  await run(`publint ${folder}`, bin('publint'), ['run', '--strict', '--pack', 'npm'], options);
  // A program is run, not imported: it has no entry points whose types could be wrong.
  if (!manifest.exports?.['.']) return;
  await run(
    `attw ${folder}`,
    bin('attw'),
    ['--pack', '.', '--profile', 'node16', '--format', 'ascii', '--no-emoji'],
    options,
  );
}

/**
 * Every test of the workspace in one run, shown as it goes. Files with a test that failed run once more, alone: what passes
 * then is told at the end, because a test that fails at times is a fault too, of itself or of what it tests.
 */
async function runTests() {
  const first = await runVitest([]);
  const failures = first.results.flatMap(failuresOf);
  if (failures.length === 0) return { ...first, failures, unsteady: [] };
  const files = [...new Set(failures.map(({ file }) => file))];
  console.log(`\nOnce more, alone: ${files.join(' ')}`);
  const second = await runVitest(files);
  const again = new Map(second.results.map((result) => [result.name, result]));
  const results = first.results.map((result) => again.get(result.name) ?? result);
  const failed = results.flatMap(failuresOf);
  const unsteady = failures.filter(({ name }) => !failed.some((failure) => failure.name === name));
  return { results, failures: failed, unsteady, broken: second.broken };
}

/** What vitest says of each of these files, or of all. `broken`: it failed itself, though every test passed. */
async function runVitest(files) {
  rmSync(RESULTS, { force: true });
  mkdirSync(join(ROOT, '.tools'), { recursive: true });
  const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`, ...files];
  const ended = await run('vitest', bin('vitest'), args, { cwd: ROOT, env: TOOL_ENV, show: true }).catch(
    (error) => error,
  );
  if (!existsSync(RESULTS)) throw ended;
  const results = JSON.parse(readFileSync(RESULTS, 'utf8')).testResults;
  return { results, broken: ended instanceof Error && results.flatMap(failuresOf).length === 0 };
}

function failuresOf({ name, status, message, assertionResults }) {
  const file = relative(ROOT, name);
  const failed = assertionResults
    .filter((test) => test.status === 'failed')
    .map((test) => ({ file, name: `${file}: ${test.fullName}`, text: test.failureMessages.join('\n') }));
  // A file that could not be loaded, or whose hooks failed, may have no test that failed.
  return status === 'failed' && failed.length === 0 ? [{ file, name: file, text: message }] : failed;
}

/** The last lines of a run are what its reader sees first. */
function tell(word, { name, text }) {
  console.log(`${word}  ${name}\n${text.split('\n').slice(0, 12).join('\n').replace(/^/gm, '        ')}`);
}

await runMain(async () => {
  const { values: options } = readArguments(USAGE, { install: { type: 'boolean', default: false } });
  const began = performance.now();
  if (options.install) await install('--install', DEBIAN.tests, { say: sayOnStderr, all: false });
  await setup(sayOnStderr);
  await check('native addons', buildAddons);
  // Tests wait more than they work, and need nothing of the others.
  const [tests] = await Promise.all([runTests(), checkSources().then(checkTypes)]);
  await check('documented tests', () => checkDocumentedTests(tests.results));
  const statuses = tests.results.flatMap(({ assertionResults }) => assertionResults.map(({ status }) => status));
  const needs = skippedByNeed(tests.results);
  if (needs.length > 0) console.log(`\nSkipped  ${needs.join('\n         ')}`);
  for (const failure of tests.unsteady) tell('UNSTEADY', failure);
  for (const failure of tests.failures) tell('FAIL', failure);
  if (tests.broken) console.log('FAIL  vitest ended with an error that is no test’s');
  const passing = statuses.filter((status) => status === 'passed').length;
  const skipped = statuses.filter((status) => !['passed', 'failed'].includes(status)).length;
  const failed = checks.failed.length + tests.failures.length + (tests.broken ? 1 : 0);
  console.log(
    `\n Checks  ${checks.passed} passed, ${checks.failed.length} failed${checks.failed.length ? `: ${checks.failed.join(', ')}` : ''}`,
  );
  console.log(
    `  Tests  ${passing} passed, ${tests.unsteady.length} of them at the second try, ${tests.failures.length} failed, ${skipped} skipped`,
  );
  console.log(`   Time  ${seconds(began)}\n`);
  console.log(`${checks.passed + passing} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
});
