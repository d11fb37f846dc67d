/**
 * `npm run test:native`: the native addons under sanitizers and valgrind; docs/native-tests.md. Ends with a line
 * `N passed, N failed`, and exit code 1 if anything failed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEBIAN, install } from './lib/debian.mjs';
import { fetchMuslRuntime, findMuslRuntime, missingForMusl } from './lib/musl-runtime.mjs';
import { compileAddon, compilerFor, readTarget } from './lib/native.mjs';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { buildAddons, setup } from './lib/setup.mjs';
import { run, StepError, seconds } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';
import { arm64Command } from './release/toolchain.mjs';

const USAGE = `usage: npm run test:native [-- options]

Builds both native addons with AddressSanitizer and UndefinedBehaviorSanitizer, and runs the tests that reach native code
with them; then the engine without JavaScript under both and under valgrind, and both addons in Node under valgrind.

  --rounds N   of values drawn by chance, in each test that draws them; 3000
  --seed SEED  they are drawn from; 1
  --install    first installs what is missing of Debian: g++ for x64 and arm64, qemu-user, valgrind (needs root and apt), and fetches
               musl, a Node for it and one for arm64
  --help       this text
`;

const SANITIZERS = [
  ...['-fsanitize=address,undefined,float-cast-overflow', '-fno-sanitize=vptr', '-fno-sanitize-recover=all'],
  '-fno-omit-frame-pointer',
];
const DEBUG = ['-g', '-O1', '-Wall', '-Wextra'];
const BUILDS = join(ROOT, '.tools', 'sanitized');
const PACKAGES = ['xen-sys', 'blockdev'];

/** Tests that reach native code. Those of NBD do not. */
const TESTS = [
  ...['addon.test', 'native.test', 'futex.test', 'file-lock.test', 'unix-socket.test', 'suite.test', 'model.test'],
  ...['workers.test', 'thread-ring.test', 'disk-mark.test', 'image-lock.test', 'image.test', 'block-device.test'],
];
/** What is slower here than the tests are made for. */
const TEST_LIMITS = ['--testTimeout=120000', '--hookTimeout=120000', '--maxWorkers=2'];

const ENGINE_SOURCES = [
  'bounce',
  'descriptors',
  'engine',
  'guarded-memory',
  'ranges',
  'registrations',
  'ring-sleep',
  'slots',
  'transfers',
  'uring',
];

/**
 * Scenarios of the stress programs, for each of which Node takes some 10 s under valgrind: where memory may be touched wrongly. None
 * that collects garbage: V8 looks at all of the stack then, what was never written included.
 */
const IN_VALGRIND = {
  'xen-sys': ['one class for another', 'short arguments of requests'],
  blockdev: ['odd operations'],
};
const VALGRIND_ROUNDS = '50';
/** Node writes its code itself: without a just-in-time compiler, and with a look at what has changed of the rest. */
const VALGRIND = ['-q', '--smc-check=all-non-file', '--error-exitcode=9'];
const NODE_IN_VALGRIND = ['--jitless', '--expose-gc'];

const MUSL_TRIALS = [
  ['x64', 'the addons for musl, on a Node for musl', tryOnMusl],
  ['arm64', 'the addons for musl and arm64, on a Bun for musl', loadOnMusl],
];

/** What build-native says of builds that it has not made, or has not compared with those that are there. */
const NOT_DONE = /NOT COMPARED|skipped/;

const totals = { passed: 0, failed: 0 };

async function check(name, work) {
  const began = performance.now();
  try {
    const note = await work();
    totals.passed++;
    console.log(`ok    ${name} (${seconds(began)})${note ? `: ${note}` : ''}`);
  } catch (error) {
    totals.failed++;
    console.log(`${error.output ?? error.stack}\nFAIL  ${name}: ${error.message}`);
  }
}

/** The addon of each package, where node-gyp-build looks for a build of a machine like this one. */
async function buildSanitized(compiler) {
  const build = async (name) => {
    const folder = join(ROOT, 'packages', name);
    const prebuilds = join(BUILDS, name, 'prebuilds', `linux-${process.arch}`);
    mkdirSync(prebuilds, { recursive: true });
    const output = join(prebuilds, `${readTarget(folder).target_name}.glibc.node`);
    await compileAddon(folder, compiler, [...DEBUG, '-fPIC', '-shared', ...SANITIZERS], output);
  };
  await Promise.all(PACKAGES.map(build));
}

async function buildHarness(compiler, name, flags) {
  const native = join(ROOT, 'packages', 'blockdev', 'native');
  const harness = join(ROOT, 'packages', 'blockdev', 'test', 'engine-harness.cc');
  const output = join(BUILDS, name);
  const sources = [harness, ...ENGINE_SOURCES.map((source) => join(native, `${source}.cc`))];
  await run(`build ${name}`, compiler, [...DEBUG, '-std=c++17', ...flags, ...sources, '-o', output]);
  return output;
}

async function sanitizedEnvironment(compiler) {
  const runtime = (await run('libasan', compiler, ['-print-file-name=libasan.so'])).trim();
  const named = PACKAGES.map((name) => [`@XENPV/${name.toUpperCase().replace('-', '_')}_PREBUILD`, join(BUILDS, name)]);
  return {
    ...Object.fromEntries(named),
    LD_PRELOAD: runtime,
    // Node itself gives back little at its end. What the addons leave behind, the engine alone tells, and the tests that
    // count files and mappings.
    ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
}

/**
 * Adds what vitest counts, in the package's folder: its limits do not reach projects of the root. Its shell script would
 * drop variables whose names no shell has.
 */
async function runSuites(name, env) {
  const folder = mkdtempSync(join(tmpdir(), 'test-native-'));
  const results = join(folder, 'vitest.json');
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${results}`];
  const args = [vitest, 'run', ...TEST_LIMITS, ...reporters, ...TESTS];
  const cwd = join(ROOT, 'packages', name);
  try {
    const failure = await run('vitest', process.execPath, args, { cwd, env, show: true }).catch((error) => error);
    const { numPassedTests, numFailedTests, numFailedTestSuites } = JSON.parse(readFileSync(results, 'utf8'));
    totals.passed += numPassedTests;
    totals.failed += Math.max(numFailedTests, Math.min(numFailedTestSuites, 1), failure instanceof StepError ? 1 : 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

await runMain(async () => {
  const options = {
    rounds: { type: 'string', default: '3000' },
    seed: { type: 'string', default: '1' },
    install: { type: 'boolean', default: false },
  };
  const { values } = readArguments(USAGE, options);
  // The cross compiler is none on arm64, whose own it is.
  if (values.install) await install('--install', DEBIAN.native, { say: sayOnStderr, all: false });
  await setup(sayOnStderr);
  await buildAddons();
  const compiler = await compilerFor(process.arch);
  if (!compiler) throw new StepError('test:native', 'needs g++; npm run test:native -- --install');
  const began = performance.now();

  await check('the addons are built alike twice, and as they lie in prebuilds/', async () => {
    const told = await run('build-native', process.execPath, [
      join(ROOT, 'scripts', 'build-native.mjs'),
      '--all',
      '--check',
      ...(values.install ? ['--install'] : []),
    ]);
    const lines = told.trim().split('\n');
    const left = lines.filter((line) => NOT_DONE.test(line));
    // Each on a line of its own: whoever reads `ok` takes all of them for compared.
    for (const line of left) console.log(`skip  ${line}`);
    return lines.filter((line) => !left.includes(line)).join('; ');
  });
  for (const [arch, name, attempt] of MUSL_TRIALS) {
    const missing = missingForMusl(arch) ?? (values.install || findMuslRuntime(arch) ? undefined : '--install');
    if (missing) console.log(`skip  ${name}: needs ${missing}`);
    else await check(name, async () => attempt(await fetchMuslRuntime(arch)));
  }
  await tryOnArm64(values.install);
  await check('addons with AddressSanitizer and UndefinedBehaviorSanitizer', () => buildSanitized(compiler));
  const env = await sanitizedEnvironment(compiler);
  await check('the sanitized addons are those that are loaded', () => loaded(env));
  await check('the engine alone, sanitized, without a leak', async () => {
    const harness = await buildHarness(compiler, 'engine-sanitized', SANITIZERS);
    return (await run('engine', harness, [values.seed, String(10 * Number(values.rounds))])).trim();
  });
  await check('the engine alone under valgrind', async () => {
    const harness = await buildHarness(compiler, 'engine', []);
    const args = ['-q', '--error-exitcode=9', '--leak-check=full', harness, values.seed, values.rounds];
    return (await run('engine', 'valgrind', args)).trim();
  });
  for (const [name, scenarios] of Object.entries(IN_VALGRIND)) {
    await check(`${name} in Node under valgrind`, () => runInValgrind(name, scenarios, values.seed));
  }
  const drawn = { NATIVE_ROUNDS: values.rounds, NATIVE_SEED: values.seed };
  for (const name of PACKAGES) await runSuites(name, { ...env, ...drawn });

  console.log(`   Time  ${seconds(began)}\n\n${totals.passed} passed, ${totals.failed} failed`);
  if (totals.failed > 0) process.exitCode = 1;
});

/** With the builds of this clone: a wrong access of theirs is an error, a leak is not looked for. */
async function runInValgrind(name, scenarios, seed) {
  const program = join('test', 'addon-stress.mjs');
  const cwd = join(ROOT, 'packages', name);
  for (const scenario of scenarios) {
    const args = [...VALGRIND, process.execPath, ...NODE_IN_VALGRIND, program, scenario, seed, VALGRIND_ROUNDS];
    await run('valgrind', 'valgrind', args, { cwd, timeoutMs: 120_000 });
  }
  return `${scenarios.length} scenarios`;
}

/** A run with other builds would show nothing. */
async function loaded(env) {
  const packages = PACKAGES.map((name) => join(ROOT, 'packages', name));
  const code = `const { createRequire } = require('node:module');
    const load = createRequire(${JSON.stringify(join(packages[0], 'package.json'))})('node-gyp-build');
    for (const folder of ${JSON.stringify(packages)}) load(folder);
    const maps = require('node:fs').readFileSync('/proc/self/maps', 'utf8');
    if (!${JSON.stringify(PACKAGES)}.every((name) => maps.includes('/sanitized/' + name + '/'))) process.exit(1);`;
  await run('addons', process.execPath, ['-e', code], { env });
}

/** blockdev/test/on-musl.mjs, then each scenario of both addons' stress programs. */
async function tryOnMusl([command, ...args]) {
  const start = (name, programArgs, env) =>
    run('musl', command, [...args, ...programArgs], { cwd: join(ROOT, 'packages', name), env, timeoutMs: 60_000 });
  // Without LIBC our own code has to find out that this is no glibc, for the machine is not Alpine; node-gyp-build would not.
  const told = await start('blockdev', [join('test', 'on-musl.mjs')], { LIBC: '' });
  let count = 0;
  for (const name of PACKAGES) {
    const program = join('test', 'addon-stress.mjs');
    const source = readFileSync(join(ROOT, 'packages', name, program), 'utf8');
    for (const [, scenario] of source.matchAll(/^ {2}async '([^']+)'\(/gm)) {
      await start(name, ['--expose-gc', program, scenario, '1', '500'], { LIBC: 'musl' });
      count++;
    }
  }
  return `${told.trim()}, ${count} scenarios`;
}

/** Node for the other processor comes from npm. qemu-user has no io_uring, and no Xen: it is enough that both load. */
async function tryOnArm64(mayFetch) {
  const name = 'the addons for arm64, on a Node under qemu-user';
  const [program, ...args] = (mayFetch && (await arm64Command(process.versions.node.split('.')[0]))) || [];
  if (program === undefined) {
    console.log(`skip  ${name}: needs --install, qemu-user and g++-aarch64-linux-gnu`);
    return;
  }
  const code = `for (const name of ${JSON.stringify(PACKAGES)}) {
    const build = '${ROOT}/packages/' + name + '/prebuilds/linux-arm64/' + name + '.glibc.node';
    if (Object.keys(require(build)).length === 0) throw new Error(build);
  }
  if (process.arch !== 'arm64') throw new Error(process.arch);
  console.log('Node ' + process.versions.node + ': loaded');`;
  await check(name, async () => (await run('arm64', program, [...args, '-e', code], { timeoutMs: 120_000 })).trim());
}

/** Bun has no libuv, and qemu-user no io_uring: it is enough that both load, which takes a library that has every symbol. */
async function loadOnMusl([command, ...args]) {
  const code = `for (const name of ${JSON.stringify(PACKAGES)}) {
    const build = '${ROOT}/packages/' + name + '/prebuilds/linux-arm64/' + name + '.musl.node';
    if (Object.keys(require(build)).length === 0) throw new Error(build);
  }
  if (process.arch !== 'arm64') throw new Error(process.arch);
  console.log('Bun ' + process.versions.bun + ': loaded');`;
  return (await run('musl', command, [...args, '-e', code], { timeoutMs: 120_000 })).trim();
}
