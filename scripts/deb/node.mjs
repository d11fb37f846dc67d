/** Node inside of the package, where the distribution's is too old: the one that runs this program. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run, StepError } from '../lib/steps.mjs';

/** Libraries that every Debian has, and the package of each. */
const LIBRARIES = {
  'libc.so.6': 'libc6',
  'libdl.so.2': 'libc6',
  'libm.so.6': 'libc6',
  'libpthread.so.0': 'libc6',
  'librt.so.1': 'libc6',
  'libstdc++.so.6': 'libstdc++6',
  'libgcc_s.so.1': 'libgcc-s1',
};

/**
 * Copies Node to `path`; resolves with its licences' text. Errors: StepError where it is for another machine, needs
 * libraries that belong to its own package (as Debian's Node does), or has no licence beside it.
 */
export async function copyNode(path, architecture) {
  const node = realpathSync(process.execPath);
  if (architecture !== process.arch) {
    throw new StepError(
      'deb',
      `--with-node bundles this machine's Node, which is for ${process.arch}, not ${architecture}`,
    );
  }
  const needed = (await run('deb', 'ldd', [node])).match(/^\s*(lib\S+)/gm)?.map((name) => name.trim()) ?? [];
  const foreign = needed.filter((name) => !(name in LIBRARIES));
  if (foreign.length > 0) {
    const what = `${node} needs ${foreign.join(', ')}, which belongs to its own package`;
    throw new StepError('deb', `${what}; run npm run deb with a Node from nodejs.org to bundle that`);
  }
  const licence = [join(dirname(node), '..', 'LICENSE'), '/usr/share/doc/nodejs/LICENSE'].find((file) =>
    existsSync(file),
  );
  if (licence === undefined)
    throw new StepError('deb', `no LICENSE of Node beside ${node} or in /usr/share/doc/nodejs`);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(node, path);
  await run('deb', 'strip', ['--strip-unneeded', path]);
  return readFileSync(licence, 'utf8');
}

/** `[package, least version]` for each library of a shared object, by the versions of the symbols that it wants. */
export function neededLibraries(object) {
  const text = readFileSync(object, 'latin1');
  const newest = (name) =>
    [...text.matchAll(new RegExp(`\\0${name}_(\\d+(?:\\.\\d+)+)(?=\\0)`, 'g'))]
      .map(([, version]) => version)
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .at(-1);
  const libstdcxx = newest('GLIBCXX');
  return [
    ['libc6', newest('GLIBC')],
    ['libstdc++6', libstdcxx && compilerOf(libstdcxx)],
  ].filter(([, version]) => version !== undefined);
}

/** The first GCC with these symbols: https://gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html */
function compilerOf(symbols) {
  const first = {
    21: '5',
    22: '6',
    23: '7',
    25: '8',
    26: '9',
    28: '10',
    29: '11',
    30: '12',
    32: '13',
    33: '14',
    34: '15',
  };
  const wanted = Number(symbols.split('.')[2] ?? 0);
  return Object.entries(first).find(([minor]) => Number(minor) >= wanted)?.[1] ?? first[34];
}
