/** `npm run deb`: makes a package for Debian from this tree. */
import { resolve } from 'node:path';
import { ARCHITECTURES, buildDeb } from './deb/build.mjs';
import { checkVersion, packageVersion, sourceDate } from './deb/version.mjs';
import { readArguments, runMain, sayOnStderr, usageError } from './lib/program.mjs';
import { setup } from './lib/setup.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: npm run deb [-- OPTIONS]

Makes xen-blockd_VERSION_ARCHITECTURE.deb, and prints its path, its size and what it has. The same commit gives the same
bytes. It needs dpkg-deb (Debian: dpkg), and binutils with --with-node.

  --out DIR            where it goes; build/ of this tree if not given
  --with-node          with the Node that runs this: for releases whose nodejs is older than 20, such as Debian 12
  --arch ARCH          amd64 or arm64; this machine's if not given
  --deb-version TEXT   its version; the one of package.json with the commit's time and name if not given
  --json               print JSON: path, version, architecture, bytes, installedKib, depends, files
  --help               this text
`;

const OPTIONS = {
  out: { type: 'string' },
  'with-node': { type: 'boolean', default: false },
  arch: { type: 'string' },
  'deb-version': { type: 'string' },
  json: { type: 'boolean', default: false },
};

await runMain(async () => {
  const { values: options } = readArguments(USAGE, OPTIONS);
  const architecture = nodeArchitecture(options.arch);
  await setup(sayOnStderr);
  const date = await sourceDate();
  const version = checkVersion(options['deb-version'] ?? (await packageVersion(date)));
  // npm runs scripts in the package's folder; paths in the arguments mean the caller's.
  const out = options.out === undefined ? resolve(ROOT, 'build') : resolve(process.env.INIT_CWD ?? '.', options.out);
  const made = await buildDeb({ out, architecture, version, date, withNode: options['with-node'] });
  process.stdout.write(options.json ? `${JSON.stringify(made, null, 2)}\n` : report(made));
});

function nodeArchitecture(wanted) {
  if (wanted === undefined) {
    if (process.arch in ARCHITECTURES) return process.arch;
    throw new StepError('deb', `there are no built addons for ${process.arch}; --arch amd64 or arm64`);
  }
  const found = Object.keys(ARCHITECTURES).find((name) => ARCHITECTURES[name] === wanted);
  return found ?? usageError(USAGE, `--arch ${wanted}: expected ${Object.values(ARCHITECTURES).join(' or ')}`);
}

function report({ path, version, bytes, installedKib, depends, files }) {
  const own = files.filter((file) => !file.startsWith('/usr/lib/xen-blockd/'));
  return `${path}
${(bytes / 1024).toFixed(0)} KiB, installed ${installedKib} KiB, version ${version}
Depends: ${depends.join(', ')}
${own.join('\n')}
and ${files.length - own.length} files in /usr/lib/xen-blockd
`;
}
