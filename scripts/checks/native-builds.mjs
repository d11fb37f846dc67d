/** Checks that the prebuilt addons load where they promise to: on their processor, with glibc 2.28 or newer, and nothing else. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readRequirements } from '../lib/elf.mjs';
import { ROOT, workspacePackages } from '../lib/workspace.mjs';

/** Of Debian 10, RHEL 8 and Node's own builds. */
const OLDEST_GLIBC = '2.28';
const LIBRARIES = new Set(['libc.so.6', 'libdl.so.2']);
const ADVICE = 'scripts/native/portable.cc has what replaces newer symbols';

/** Resolves with a note. Errors: one that has each problem as `output`. */
export async function checkNativeBuilds() {
  const builds = workspacePackages().flatMap(({ folder }) => buildsOf(folder));
  const problems = builds.flatMap((build) => problemsOf(build).map((problem) => `${build.path}: ${problem}`));
  if (problems.length > 0) {
    throw Object.assign(new Error(`${problems.length} problems; ${ADVICE}`), { output: problems.join('\n') });
  }
  return `${builds.length} builds, for glibc ${OLDEST_GLIBC} and newer`;
}

function buildsOf(folder) {
  const prebuilds = join(ROOT, folder, 'prebuilds');
  const machines = existsSync(prebuilds) ? readdirSync(prebuilds) : [];
  return machines.flatMap((machine) =>
    readdirSync(join(prebuilds, machine))
      .filter((name) => name.endsWith('.node'))
      .map((name) => ({ machine, path: `${folder}/prebuilds/${machine}/${name}` })),
  );
}

function problemsOf({ machine, path }) {
  const { arch, libraries, versions } = readRequirements(join(ROOT, path));
  return [
    ...(`linux-${arch}` === machine ? [] : [`is for ${arch}`]),
    ...libraries.filter((library) => !LIBRARIES.has(library)).map((library) => `needs ${library}`),
    ...versions
      .filter(({ version }) => !isOldEnough(version))
      .map(({ library, version }) => `needs ${version} of ${library}`),
  ];
}

function isOldEnough(version) {
  const [, glibc] = /^GLIBC_([\d.]+)$/.exec(version) ?? [];
  return glibc !== undefined && glibc.localeCompare(OLDEST_GLIBC, 'en', { numeric: true }) <= 0;
}
