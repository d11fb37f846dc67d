/**
 * `npm run docs:api`: the reference of all libraries and all that they export, `./testing` too, from their docstrings, in
 * build/api. With `--check` it writes nothing, and fails where something exported is not documented, names a type that
 * users cannot import, or links to nothing.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readArguments, runMain } from './lib/program.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT, workspacePackages } from './lib/workspace.mjs';

const USAGE = `usage: npm run docs:api [-- --check] [-- --package NAME]

Builds the reference of the libraries into build/api.

  --check          only says what is not documented, or cannot be imported, and fails if anything is
  --package NAME   of one package: ring
  --help           this text
`;

/** What must say what it is. */
const DOCUMENTED = [
  'Class',
  'Enum',
  'EnumMember',
  'Function',
  'Interface',
  'Method',
  'Property',
  'Accessor',
  'TypeAlias',
  'Variable',
];

/** The libraries, or the one of this name. */
function libraries(only) {
  return workspacePackages()
    .filter(({ folder, manifest }) => folder.startsWith('packages/') && manifest.exports?.['.'])
    .filter(({ folder }) => only === undefined || folder === `packages/${only}`);
}

/** The sources of what users import, `.` and such as `./testing`, as tsup.config.ts names them. Error: StepError. */
function entryPoints({ folder, manifest }) {
  const config = readFileSync(join(ROOT, folder, 'tsup.config.ts'), 'utf8');
  return Object.keys(manifest.exports)
    .filter((entry) => entry !== './package.json')
    .map((entry) => {
      if (entry === '.') return join(ROOT, folder, 'src/index.ts');
      const [, source] = new RegExp(`\\b${entry.slice(2)}: '(src/[^']+)'`).exec(config) ?? [];
      if (source === undefined) throw new StepError(folder, `tsup.config.ts does not say what ${entry} is made of`);
      return join(ROOT, folder, source);
    });
}

/** Converts one package; gives typedoc's model, and its warnings as lines. */
async function convert(one, typedoc) {
  const { folder } = one;
  const warnings = [];
  const app = await typedoc.Application.bootstrap({
    entryPoints: entryPoints(one),
    tsconfig: join(ROOT, folder, 'tsconfig.json'),
    basePath: ROOT,
    readme: join(ROOT, folder, 'README.md'),
    excludeInternal: true,
    intentionallyNotExported: PARTS[folder.replace('packages/', '')] ?? [],
    excludePrivate: true,
    excludeExternals: true,
    skipErrorChecking: true,
    validation: { notExported: true, invalidLink: true, notDocumented: true },
    requiredToBeDocumented: DOCUMENTED,
    logLevel: 'Warn',
    disableGit: true,
    sourceLinkTemplate: 'https://github.com/xenpv/xen-blockd/blob/main/{path}#L{line}',
  });
  app.logger = Object.assign(new typedoc.Logger(), {
    log(text, level) {
      if (level >= typedoc.LogLevel.Warn) warnings.push(text);
    },
  });
  const project = await app.convert();
  if (!project) throw new StepError(folder, 'its types cannot be read', warnings.join('\n'));
  app.validate(project);
  return { app, project, warnings };
}

/** Parts of other types, which nobody has to name. */
const PARTS = {
  'xen-block': ['AccountingClass'],
  blkif: ['ValueOf'],
  'xen-sys': ['NumberOf', 'OwnCode', 'Call', 'SegmentCall', 'MapCall'],
  xenbus: ['Published'],
  xenstore: ['Presence', 'NumberRange', 'NumberType', 'ScalarValues', 'ChangeOf', 'ContentOf', 'ListItem', 'Request'],
};

/** Warnings that nobody could do anything about, and why. */
const NOTHING_TO_SAY = new RegExp(
  [
    // Of the language, with one meaning everywhere.
    /\.\[(asyncDispose|dispose|asyncIterator)\] /,
    // Protected: what a subclass of ours calls, which users see and cannot.
    /XenstoreClient\.send |Transaction\.send /,
    // Members of a type without a name, which the comment of what has it tells of.
    /\.__type\./,
    // A README links to folders, which are pages on the forge and none here.
    /^The relative path /,
  ]
    .map(({ source }) => source)
    .join('|'),
);

/** `warnings`: what is not documented, or cannot be imported, of all libraries or of the one of this name. */
async function apiDocs({ only, write }) {
  // Imported late: a fresh clone has it only after the set-up.
  const typedoc = await import('typedoc');
  const packages = libraries(only);
  if (packages.length === 0) throw new StepError('docs:api', `there is no library ${only}`);
  const warnings = [];
  for (const one of packages) {
    const { app, project, warnings: all } = await convert(one, typedoc);
    warnings.push(...all.filter((text) => !NOTHING_TO_SAY.test(text)).map((text) => `${one.folder}: ${text}`));
    if (write) await app.generateDocs(project, join(ROOT, 'build/api', one.folder.replace('packages/', '')));
  }
  return { packages, warnings };
}

/** Fails where something that a library exports is not documented, or names a type that users cannot import. */
export async function checkApiDocs(only) {
  const { packages, warnings } = await apiDocs({ only, write: false });
  if (warnings.length > 0) throw new StepError('docs:api', `${warnings.length} warnings`, warnings.join('\n'));
  return `${packages.length} libraries`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runMain(async () => {
    const { values } = readArguments(USAGE, {
      check: { type: 'boolean', default: false },
      package: { type: 'string' },
    });
    if (values.check) {
      console.log(await checkApiDocs(values.package));
      return;
    }
    const { packages, warnings } = await apiDocs({ only: values.package, write: true });
    for (const warning of warnings) console.warn(warning);
    console.log(`build/api: ${packages.length} libraries`);
  });
}
