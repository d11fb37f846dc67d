/** What a package may weigh. A budget that is too small is raised here, in the commit that needs it, so that it is seen. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { publishedPackages, ROOT } from '../lib/workspace.mjs';
import { reachable } from './pack.mjs';

const KIB = 1024;

/** By folder, in KiB: `code` is what `import` of the main entry reads of the package itself; `packed` the tarball. */
const BUDGETS = {
  'apps/xen-blockd': { code: 1840, packed: 740 },
  'packages/blkfront': { code: 60, packed: 100 },
  'packages/blkif': { code: 24, packed: 50 },
  'packages/blockdev': { code: 180, packed: 580 },
  'packages/emulator': { code: 190, packed: 320 },
  'packages/nbd': { code: 44, packed: 76 },
  'packages/qmp': { code: 30, packed: 40 },
  'packages/ring': { code: 30, packed: 50 },
  'packages/xen-block': { code: 320, packed: 540 },
  'packages/xen-sys': { code: 80, packed: 360 },
  'packages/xenbus': { code: 140, packed: 250 },
  'packages/xenstore': { code: 70, packed: 310 },
  'packages/xenstored': { code: 100, packed: 150 },
};

const PLACE = 'scripts/release/sizes.mjs';

/** Resolves with a note. Errors: one that has each package that is too large as `output`. */
export async function checkCodeSizes() {
  const sizes = publishedPackages().map(({ folder, manifest }) => ({ folder, bytes: codeSize(folder, manifest) }));
  return within('code', sizes);
}

/** The same for tarballs, `{ folder, packed }` in bytes. */
export async function checkPackedSizes(packages) {
  return within(
    'packed',
    packages.map(({ folder, packed }) => ({ folder, bytes: packed })),
  );
}

function within(kind, sizes) {
  const problems = sizes.flatMap(({ folder, bytes }) => {
    const budget = BUDGETS[folder]?.[kind];
    if (budget === undefined)
      return [`${folder}: no budget for ${kind} in ${PLACE}; it is ${Math.ceil(bytes / KIB)} KiB`];
    if (bytes <= budget * KIB) return [];
    return [
      `${folder}: ${kind} is ${Math.ceil(bytes / KIB)} KiB, its budget ${budget} KiB; make it smaller, or raise it in ${PLACE}`,
    ];
  });
  if (problems.length === 0) return `${sizes.length} within their budgets`;
  throw Object.assign(new Error(`${problems.length} over their budgets`), { output: problems.join('\n') });
}

function codeSize(folder, manifest) {
  const dist = join(ROOT, folder, 'dist');
  const present = new Set(existsSync(dist) ? readdirSync(dist) : []);
  const entry = manifest.exports['.'] ? ['index.js'] : ['main.js', 'program.cjs'];
  const files = reachable(dist, present, entry).filter((name) => !name.endsWith('.map'));
  return files.reduce((sum, name) => sum + statSync(join(dist, name)).size, 0);
}
