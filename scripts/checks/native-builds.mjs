/**
 * Checks that the prebuilt addons load where they promise to: on their processor, with glibc 2.28 or newer, or with musl, and
 * nothing else.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readRequirements } from '../lib/elf.mjs';
import { ROOT, workspacePackages } from '../lib/workspace.mjs';

/** Of Debian 10, RHEL 8 and Node's own builds. */
const OLDEST_GLIBC = '2.28';
/** By the word in the build's name. musl's loader takes the name `libc.so` for itself; glibc's finds no such library. */
const LIBRARIES = { glibc: ['libc.so.6', 'libdl.so.2'], musl: ['libc.so'] };
const ADVICE = 'scripts/native/portable.cc has what replaces newer symbols';

/** Resolves with a note. Errors: one that has each problem as `output`. */
export async function checkNativeBuilds() {
  const builds = workspacePackages().flatMap(({ folder }) => buildsOf(folder));
  const problems = builds.flatMap((build) => problemsOf(build).map((problem) => `${build.path}: ${problem}`));
  if (problems.length > 0) {
    throw Object.assign(new Error(`${problems.length} problems; ${ADVICE}`), { output: problems.join('\n') });
  }
  const count = (libc) => builds.filter((build) => build.libc === libc).length;
  return `${count('glibc')} builds for glibc ${OLDEST_GLIBC} and newer, ${count('musl')} for musl`;
}

function buildsOf(folder) {
  const prebuilds = join(ROOT, folder, 'prebuilds');
  const machines = existsSync(prebuilds) ? readdirSync(prebuilds) : [];
  return machines.flatMap((machine) =>
    readdirSync(join(prebuilds, machine))
      .filter((name) => name.endsWith('.node'))
      .map((name) => ({ machine, libc: name.split('.').at(-2), path: `${folder}/prebuilds/${machine}/${name}` })),
  );
}

function problemsOf({ machine, libc, path }) {
  const allowed = LIBRARIES[libc];
  if (allowed === undefined) return [`is for the C library ${libc}`];
  const { arch, libraries, versions, symbols } = readRequirements(join(ROOT, path));
  return [
    ...(`linux-${arch}` === machine ? [] : [`is for ${arch}`]),
    ...libraries.filter((library) => !allowed.includes(library)).map((library) => `needs ${library}`),
    ...(libraries.includes(allowed[0]) ? [] : [`does not name ${allowed[0]}`]),
    ...versions
      .filter(({ version }) => libc !== 'glibc' || !isOldEnough(version))
      .map(({ library, version }) => `needs ${version} of ${library}`),
    ...(libc === 'musl'
      ? symbols.filter(isMissingUnseen).map(({ name }) => `does without ${name} where it is not`)
      : []),
  ];
}

/** Of a weak symbol the loader never says that it is missing: so mutexes would not lock, where libstdc++ takes glibc for granted. */
function isMissingUnseen({ defined, weak }) {
  return weak && !defined;
}

function isOldEnough(version) {
  const [, glibc] = /^GLIBC_([\d.]+)$/.exec(version) ?? [];
  return glibc !== undefined && glibc.localeCompare(OLDEST_GLIBC, 'en', { numeric: true }) <= 0;
}
