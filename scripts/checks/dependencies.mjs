/**
 * Checks scripts/checks/layers.mjs against the code with dependency-cruiser: package arrows, floors inside a package, no
 * circles (types count), no import of tests or `testing/` by production code; and that no folder is crowded or unlisted.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cruise } from 'dependency-cruiser';
import { filesBelow, ROOT, workspacePackages } from '../lib/workspace.mjs';
import { FILES_A_FOLDER, FLOORS, PACKAGES } from './layers.mjs';

const TEST_CODE = ['/src/testing/', '\\.test\\.ts$'];

const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** `packages/x` or `packages/x/src/room` to the folder whose entries are the rooms. */
const roomsFolder = (key) => (key.includes('/src') ? key : `${key}/src`);

/** Patterns for the files of a room. */
function roomPatterns(folder, room) {
  return room.split(' ').map((name) => `^${quoted(folder)}/${quoted(name)}${name.endsWith('.ts') ? '$' : '/'}`);
}

/** For each room: no import from its own floor's other rooms, nor from the floors above it. */
function floorRules([key, floors]) {
  const folder = roomsFolder(key);
  return floors.flatMap((rooms, floor) =>
    rooms.map((room) => {
      const beside = rooms.filter((other) => other !== room);
      const above = floors.slice(0, floor).flat();
      const entry = folder.endsWith('/src') ? ['index.ts'] : [];
      return {
        name: `${folder}/${room} imports only from below`,
        severity: 'error',
        from: { path: roomPatterns(folder, room), pathNot: TEST_CODE },
        to: { path: [...entry, ...above, ...beside].flatMap((other) => roomPatterns(folder, other)) },
      };
    }),
  );
}

/** For each package: no other package of the workspace than those listed. */
function packageRules([name, allowed]) {
  const others = Object.keys(PACKAGES).filter((other) => other !== name && !allowed.includes(other));
  return {
    name: `packages/${name} imports only ${allowed.join(', ') || 'no package of ours'}`,
    severity: 'error',
    from: { path: `^packages/${quoted(name)}/src/`, pathNot: TEST_CODE },
    to: { path: [...others.map((other) => `^packages/${quoted(other)}/`), '^apps/'] },
  };
}

const RULES = [
  { name: 'no circles', severity: 'error', from: {}, to: { circular: true } },
  {
    name: 'production code imports no test code',
    severity: 'error',
    from: { path: '^(packages|apps)/[^/]+/src/', pathNot: TEST_CODE },
    to: { path: [...TEST_CODE, '/dist/testing[.]', '^test-support/'] },
  },
  { name: 'every import is found', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ...Object.entries(PACKAGES).map(packageRules),
  ...Object.entries(FLOORS).flatMap(floorRules),
];

/** What layers.mjs does not list, and folders with too many production files. */
function problemsOfTheTree() {
  const problems = [];
  for (const name of Object.keys(FLOORS)) {
    const listed = new Set(['index.ts', 'testing', ...FLOORS[name].flat().flatMap((room) => room.split(' '))]);
    const folder = roomsFolder(name);
    for (const entry of readdirSync(join(ROOT, folder))) {
      if (/\.test\.ts$|\.d\.ts$/.test(entry) || listed.has(entry)) continue;
      problems.push(`${folder}/${entry} has no floor: list it in scripts/checks/layers.mjs`);
    }
  }
  const counts = new Map();
  for (const { folder } of workspacePackages()) {
    for (const path of filesBelow(folder)) {
      if (!/\/src\/.*\.ts$/.test(path) || TEST_CODE.some((pattern) => new RegExp(pattern).test(path))) continue;
      const parent = path.slice(0, path.lastIndexOf('/'));
      counts.set(parent, (counts.get(parent) ?? 0) + 1);
    }
  }
  for (const [folder, count] of counts) {
    if (count > FILES_A_FOLDER) problems.push(`${folder} has ${count} files: make a folder of what belongs together`);
  }
  return problems;
}

/** Resolves with what was looked at; rejects with every violation in `output`. */
export async function checkDependencies() {
  const problems = problemsOfTheTree();
  const { output } = await cruise(
    ['packages', 'apps'],
    {
      ruleSet: { forbidden: RULES },
      validate: true,
      tsPreCompilationDeps: true,
      doNotFollow: { path: ['node_modules', '/dist/'] },
      exclude: { path: ['/native/', '/prebuilds/', '[.]config[.]ts$'] },
      baseDir: ROOT,
    },
    {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
      extensions: ['.ts', '.js', '.d.ts', '.mjs'],
    },
  );
  for (const { from, to, rule, cycle } of output.summary.violations) {
    const way = cycle ? [from, ...cycle.map(({ name }) => name)].join(' -> ') : `${from} -> ${to}`;
    problems.push(`${rule.name}: ${way}`);
  }
  if (problems.length > 0) {
    throw Object.assign(new Error(`${problems.length} problems`), { output: problems.join('\n') });
  }
  return `${output.summary.totalCruised} modules, ${output.summary.totalDependenciesCruised} imports`;
}

if (process.argv[1] === import.meta.filename || process.argv[1]?.endsWith('checks/dependencies.mjs')) {
  try {
    console.log(await checkDependencies());
  } catch (error) {
    console.error(`${error.output ?? error.stack}\n${error.message}`);
    process.exitCode = 1;
  }
}
