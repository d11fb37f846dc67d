/**
 * `npm run release`: a release without publishing it. Packs everything, installs the tarballs into empty projects, and tries
 * them as users would; docs/releasing.md. Ends with a table, a line `N passed, N failed`, and exit code 1 if anything failed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readArguments, runMain, sayOnStderr, usageError } from './lib/program.mjs';
import { buildAddons, setup, turbo } from './lib/setup.mjs';
import { StepError } from './lib/steps.mjs';
import { tryFaultTest, tryTemplate } from './release/authors.mjs';
import { packAll } from './release/pack.mjs';
import { Project } from './release/project.mjs';
import { checkPackedSizes } from './release/sizes.mjs';
import { NODES, nodeProgram, TYPESCRIPTS } from './release/toolchain.mjs';

const USAGE = `usage: npm run release [-- options]

Packs all packages, installs them into empty projects on Node ${NODES.join(', ')}, and tries them there: ES modules and CommonJS,
bundled and not, the examples, the template of a backend, the types with TypeScript ${TYPESCRIPTS.join(', ')}, Bun, and
arm64 under qemu-user.
Publishes nothing.

  --quick      this Node alone, one bundler, no TypeScript, no template, no other machine
  --node LINE  this line of Node alone; may be given again
  --no-build   of what is in dist
  --json       the results as JSON on standard output
  --keep       keeps the folder of tarballs and projects, and tells it
  --help       this text
`;

const say = sayOnStderr;

/** What is tried of a project, after its installation; `once`: on the first Node only, for it does not depend on it. */
function trials({ quick }) {
  const bundles = (bundler) =>
    ['esm', 'cjs'].map((system) => ({
      name: `${bundler}, ${system}`,
      run: (project) => project.bundled(bundler, system),
    }));
  const all = [
    { name: 'import', run: (project) => project.imports('esm') },
    { name: 'require', run: (project) => project.imports('cjs') },
    { name: 'readmes, esm', run: (project) => project.readmes('esm') },
    { name: 'readmes, cjs', run: (project) => project.readmes('cjs') },
    { name: 'examples', run: (project) => project.examples() },
    { name: 'xen-blockd', run: (project) => project.daemon() },
    { name: 'xen-blockd alone', once: true, run: (project, _, tarballs) => project.withoutEmulator(tarballs) },
    ...bundles('esbuild'),
  ];
  if (quick) return all;
  const types = (version) => ({ name: `TypeScript ${version}`, once: true, run: (project) => project.types(version) });
  const folderOf = (project, name) => join(`${project.folder}-authors`, name);
  const others = [
    {
      name: 'the template',
      once: true,
      run: (project, _, tarballs) => tryTemplate(folderOf(project, 'template'), project.node, tarballs),
    },
    {
      name: 'fault-test',
      once: true,
      run: (project, _, tarballs) => tryFaultTest(folderOf(project, 'fault-test'), project.node, tarballs),
    },
    { name: 'Bun', once: true, run: (project) => project.bun() },
    { name: 'arm64 (qemu-user)', once: true, run: (project, line) => project.arm64(line) },
  ];
  return [...all, ...bundles('rollup'), ...TYPESCRIPTS.map(types), ...others];
}

/** One cell: `{ node, name, passed, seconds, note, output }`. */
async function attempt(node, name, work) {
  const began = performance.now();
  const cell = (passed, note, output) => ({
    node,
    name,
    passed,
    seconds: (performance.now() - began) / 1000,
    note,
    output,
  });
  try {
    return cell(true, (await work()) ?? '');
  } catch (error) {
    return cell(false, error.message, error.output || error.stack);
  }
}

async function tryNode(line, { folder, tarballs, options, isFirst }) {
  const cells = [];
  const add = async (name, work) => {
    const cell = await attempt(line, name, work);
    cells.push(cell);
    say(`Node ${line}: ${name}: ${cell.passed ? 'ok' : 'FAIL'} (${cell.seconds.toFixed(1)} s)`);
    return cell.passed;
  };
  let project;
  const others = options.quick || !isFirst ? [] : ['@types/node@20'];
  const installed = await add('install', async () => {
    project = new Project(join(folder, `node-${line}`), await nodeProgram(line));
    return project.install(tarballs, others);
  });
  if (!installed) return cells;
  await add('install --global', () => project.installsGlobally(tarballs));
  for (const { name, once, run } of trials(options)) {
    if (!once || isFirst) await add(name, () => run(project, line, tarballs));
  }
  return cells;
}

function printTable(lines, cells) {
  const names = [...new Set(cells.map(({ name }) => name))];
  const width = Math.max(...names.map((name) => name.length)) + 2;
  console.log(`\n${''.padEnd(width)}${lines.map((line) => `Node ${line}`.padEnd(14)).join('')}`);
  for (const name of names) {
    const words = lines.map((line) => {
      const cell = cells.find((one) => one.name === name && one.node === line);
      if (!cell) return '-'.padEnd(14);
      return `${cell.passed ? 'ok' : 'FAIL'} ${cell.seconds.toFixed(1)} s`.padEnd(14);
    });
    console.log(`${name.padEnd(width)}${words.join('')}`);
  }
}

function printPackages(packages) {
  const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`.padStart(10);
  console.log(`\n${'package'.padEnd(24)}${'packed'.padStart(10)}${'unpacked'.padStart(10)}`);
  for (const { name, packed, unpacked } of packages) console.log(`${name.padEnd(24)}${kib(packed)}${kib(unpacked)}`);
}

await runMain(async () => {
  const flag = { type: 'boolean', default: false };
  const { values: options } = readArguments(USAGE, {
    quick: flag,
    json: flag,
    keep: flag,
    'no-build': flag,
    node: { type: 'string', multiple: true },
  });
  const unknown = options.node?.find((line) => !/^\d+$/.test(line));
  if (unknown !== undefined) usageError(USAGE, `--node ${unknown}: a line of Node is a number, such as ${NODES[0]}`);
  const ours = process.versions.node.split('.')[0];
  const lines = options.node ?? (options.quick ? [ours] : NODES);
  if (!options['no-build']) {
    await setup(say);
    await buildAddons();
    await turbo('types', ['build:types']);
  }
  const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-release-'));
  try {
    const cells = [];
    let packages = [];
    const packed = await attempt('', 'pack', async () => {
      packages = await packAll(folder);
    });
    if (!packed.passed) throw new StepError('release', packed.note, packed.output);
    cells.push(await attempt('', 'sizes', () => checkPackedSizes(packages)));
    const tarballs = packages.map(({ tarball }) => tarball);
    for (const line of lines)
      cells.push(...(await tryNode(line, { folder, tarballs, options, isFirst: line === lines[0] })));
    report(options, lines, packages, cells);
  } finally {
    if (options.keep) say(`kept ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
});

function report(options, lines, packages, cells) {
  const failed = cells.filter(({ passed }) => !passed);
  if (failed.length > 0) process.exitCode = 1;
  if (options.json) {
    const told = packages.map(({ tarball: _, ...one }) => one);
    process.stdout.write(
      `${JSON.stringify({ passed: failed.length === 0, packages: told, trials: cells }, null, 2)}\n`,
    );
    return;
  }
  printPackages(packages);
  printTable(
    lines,
    cells.filter(({ node }) => node !== ''),
  );
  for (const { node, name, note, output } of failed) {
    console.log(`\nFAIL  ${node === '' ? name : `Node ${node}, ${name}`}: ${note}`);
    console.log(String(output).split('\n').slice(0, 30).join('\n').replace(/^/gm, '      '));
  }
  console.log(`\n${cells.length - failed.length} passed, ${failed.length} failed`);
}
