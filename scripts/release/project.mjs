/** One empty project with all packages installed from their tarballs, and what is tried in it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { run } from '../lib/steps.mjs';
import { commands, examples, importsOfAll, readmePrograms } from './programs.mjs';
import { arm64Command, bunProgram, typescripts } from './toolchain.mjs';

const require = createRequire(import.meta.url);
const MOST_MS = 120_000;
/** No package runs a script. */
export const INSTALL_OPTIONS = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error', '--ignore-scripts'];

/** What npm itself is, so that another Node than the one in PATH can run it. */
export async function npmProgram() {
  const root = (await run('npm root', 'npm', ['root', '--global'])).trim();
  return join(root, 'npm', 'bin', 'npm-cli.js');
}

/** A project on one version of Node. What it offers to try are functions that resolve with a note, or reject. */
export class Project {
  #folder;
  #node;
  #env;

  constructor(folder, node) {
    this.#folder = folder;
    this.#node = node;
    this.#env = { PATH: `${dirname(node)}:${process.env.PATH}`, NODE_PATH: '' };
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true, "version": "1.0.0" }\n');
  }

  get folder() {
    return this.#folder;
  }

  /** The program. */
  get node() {
    return this.#node;
  }

  /** Installs with the project's Node. */
  async install(tarballs, others = []) {
    await this.#run('install', [await npmProgram(), 'install', ...INSTALL_OPTIONS, ...tarballs, ...others]);
    const scoped = readdirSync(join(this.#folder, 'node_modules', '@xenpv')).length;
    return `${scoped} libraries`;
  }

  /** As an operator installs it: the commands and the manual page are found by whoever has the prefix in PATH. */
  async installsGlobally(tarballs) {
    const prefix = join(this.#folder, 'global');
    const options = ['--global', '--prefix', prefix, ...INSTALL_OPTIONS];
    await this.#run('install --global', [await npmProgram(), 'install', ...options, ...tarballs]);
    const version = await this.#within('xen-blockd', join(prefix, 'bin', 'xen-blockd'), ['--version']);
    await this.#within('xenstore', join(prefix, 'bin', 'xenstore'), ['--help']);
    const page = readFileSync(join(prefix, 'share', 'man', 'man8', 'xen-blockd.8'), 'utf8');
    if (!page.includes('.TH ')) throw new Error('xen-blockd.8 is no manual page');
    return version.trim();
  }

  /** The daemon of who serves guests of Xen: npm fetches no emulator, and what needs it names it. */
  async withoutEmulator(tarballs) {
    // Beside the project: in it, modules of the project would be found.
    const prefix = `${this.#folder}-alone`;
    const options = ['--prefix', prefix, ...INSTALL_OPTIONS];
    mkdirSync(prefix);
    const ours = tarballs.filter((tarball) => !/xenpv-(emulator|xenstored)-/.test(tarball));
    await this.#run('install', [await npmProgram(), 'install', ...options, ...ours]);
    if (existsSync(join(prefix, 'node_modules', '@xenpv', 'emulator'))) throw new Error('npm fetched the emulator');
    const program = join(prefix, 'node_modules', 'xen-blockd', 'dist', 'main.js');
    await this.#run('xen-blockd', [program, '--version']);
    const failed = await this.#run('demo', [program, 'demo']).catch((error) => error);
    const said = /needs @xenpv\/emulator, which is not installed: npm install @xenpv\/emulator/;
    if (!said.test(failed.output ?? '')) throw new Error('demo does not say what it needs');
    return 'demo names what it needs';
  }

  async imports(system) {
    return (await this.#runText(`imports.${system === 'esm' ? 'mjs' : 'cjs'}`, importsOfAll()[system])).trim();
  }

  /** The programs of the READMEs, in one module system. */
  readmes(system) {
    const extension = system === 'esm' ? 'mjs' : 'cjs';
    return each(readmePrograms(), (program) => this.#runText(`readme-${program.name}.${extension}`, program[system]));
  }

  examples() {
    return each([...examples(), ...commands()], ({ name, program, args }) =>
      this.#runText(`${name}.mjs`, program, args),
    );
  }

  /** The command of the daemon. */
  async daemon() {
    return (await this.#run('xen-blockd', [join('node_modules', 'xen-blockd', 'dist', 'main.js'), '--version'])).trim();
  }

  /** Programs of the READMEs, the examples where modules may wait, and imports of everything, each as one file. */
  async bundled(bundler, system) {
    const bundle = bundler === 'esbuild' ? withEsbuild : withRollup;
    // Rollup takes ten times as long as esbuild, and everything is in the first of them.
    const some = ({ name }) => bundler === 'esbuild' || name === 'blockdev';
    const programs = [
      { name: 'imports', bundled: importsOfAll().esm },
      ...readmePrograms().filter(some),
      ...(bundler === 'esbuild' && system === 'esm'
        ? examples().map(({ name, program }) => ({ name, bundled: program }))
        : []),
    ];
    const folder = `bundled-${bundler}-${system}`;
    mkdirSync(join(this.#folder, folder), { recursive: true });
    return each(programs, async ({ name, bundled }) => {
      const entry = join(this.#folder, folder, `${name}.entry.mjs`);
      writeFileSync(entry, bundled);
      const output = join(folder, `${name}.${system === 'esm' ? 'mjs' : 'cjs'}`);
      await bundle(entry, join(this.#folder, output), system);
      return this.#run(output, [output]);
    });
  }

  /** The examples as strict TypeScript, with every type of ours checked, as an ES module and as CommonJS. */
  async types(version) {
    const compiler = join(await typescripts(), 'node_modules', `typescript-${version}`, 'bin', 'tsc');
    const folder = join(this.#folder, `types-${version}`);
    mkdirSync(folder, { recursive: true });
    for (const { name, source } of examples()) writeFileSync(join(folder, `${name}.mts`), source);
    writeFileSync(join(folder, 'imports.cts'), importsOfAll().esm);
    const compilerOptions = {
      ...{ module: 'nodenext', target: 'es2022', lib: ['es2023', 'esnext.disposable'], types: ['node'] },
      ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false, noEmit: true },
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts', '*.cts'] }));
    await this.#run(`TypeScript ${version}`, [compiler, '-p', folder]);
    return undefined;
  }

  /** The programs of the READMEs on Bun, where images are read by threads. */
  async bun() {
    const bun = await bunProgram();
    return each(readmePrograms(), async ({ name, esm }) => {
      writeFileSync(join(this.#folder, `bun-${name}.mjs`), esm);
      await this.#within(`bun-${name}`, bun, [`bun-${name}.mjs`]);
    });
  }

  /** Both addons, and an image that is read, on the other processor. */
  async arm64(line) {
    const [program, ...args] = (await arm64Command(line)) ?? [];
    if (program === undefined) return 'skipped: needs qemu-user and g++-aarch64-linux-gnu';
    const text = `import '@xenpv/blockdev';
import { requireNativeAddon } from '@xenpv/xen-sys';
requireNativeAddon();
if (process.arch !== 'arm64') throw new Error(process.arch);
${readmePrograms().find(({ name }) => name === 'blockdev').esm}`;
    writeFileSync(join(this.#folder, 'arm64.mjs'), text);
    return (await this.#within('arm64', program, [...args, 'arm64.mjs'])).trim();
  }

  async #runText(name, text, args = []) {
    writeFileSync(join(this.#folder, name), text);
    return this.#run(name, [name, ...args]);
  }

  #run(name, args) {
    return this.#within(name, this.#node, args);
  }

  /** Errors: StepError, also where it has not ended after two minutes. */
  #within(name, program, args) {
    return run(name, program, args, { cwd: this.#folder, env: this.#env, timeoutMs: MOST_MS });
  }
}

/** All of them, so that one run tells every failure. */
async function each(programs, work) {
  const failures = [];
  for (const program of programs) {
    await Promise.resolve(work(program)).catch((error) => failures.push(error));
  }
  if (failures.length === 0) return `${programs.length} programs`;
  throw Object.assign(new Error(`${failures.length} of ${programs.length} programs`), {
    output: failures.map(({ message, output }) => `${message}\n${output ?? ''}`).join('\n'),
  });
}

async function withEsbuild(entry, outfile, system) {
  const { build } = require('esbuild');
  const options = { bundle: true, platform: 'node', target: 'node20', logLevel: 'silent' };
  await build({ ...options, entryPoints: [entry], outfile, format: system === 'esm' ? 'esm' : 'cjs' });
}

async function withRollup(entry, file, system) {
  const { rollup } = require('rollup');
  const { nodeResolve } = require('@rollup/plugin-node-resolve');
  const commonjs = require('@rollup/plugin-commonjs');
  const bundle = await rollup({
    input: entry,
    external: [/^node:/],
    plugins: [nodeResolve({ exportConditions: ['node'] }), commonjs()],
    onwarn: () => {},
  });
  const format = system === 'esm' ? 'es' : 'cjs';
  await bundle.write({ file, format, inlineDynamicImports: true });
  await bundle.close();
}
