/** The programs by which a release is tried: imports of everything, the examples, and what opens each README. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { publishedPackages, ROOT } from '../lib/workspace.mjs';

const IMPORT = /^import (\{[^}]*\}) from ('[^']+');$/gm;
const OPENING_PROGRAM = /^# [^\n]*\n\n(?:[^`\n][^\n]*\n)*\n?```js\n(.*?)```/s;
const SINGLE_FILE = /^[\w-]+\.ts$/;

/** What users import: `@xenpv/ring`, `@xenpv/xen-sys/testing`; without modules that are workers. */
function entryPoints() {
  return publishedPackages().flatMap(({ manifest }) =>
    Object.entries(manifest.exports)
      .filter(([entry, target]) => typeof target === 'object' && !/worker$/.test(entry))
      .map(([entry]) => join(manifest.name, entry)),
  );
}

/** A module that imports every entry point and prints how many there were. */
export function importsOfAll() {
  const names = entryPoints();
  const imports = names.map((name, index) => `import * as entry${index} from '${name}';`);
  const modules = names.map((_, index) => `entry${index}`).join(', ');
  const body = `console.log([${modules}].length + ' entry points');\n`;
  return {
    esm: `${imports.join('\n')}\n${body}`,
    cjs: `${imports.join('\n').replaceAll(/^import \* as (\w+) from ('[^']+');$/gm, 'const $1 = require($2);')}\n${body}`,
  };
}

/** The single-file examples: name, source, and how it is in JavaScript. */
export function examples() {
  const folder = join(ROOT, 'examples');
  return readdirSync(join(folder, 'src'))
    .filter((name) => SINGLE_FILE.test(name) && !name.includes('.test.'))
    .map((name) => ({
      name: name.replace('.ts', ''),
      source: readFileSync(join(folder, 'src', name), 'utf8'),
      program: readFileSync(join(folder, 'dist', name.replace('.ts', '.js')), 'utf8').replace(
        /^\/\/# sourceMapping.*$/m,
        '',
      ),
    }));
}

/** Examples that are commands, built as one file. Where there is no Xen they have their help to show. */
export function commands() {
  const program = readFileSync(join(ROOT, 'examples', 'disk-lister', 'dist', 'main.js'), 'utf8');
  return [{ name: 'disk-lister', program: program.replace(/^\/\/# sourceMapping.*$/m, ''), args: ['--help'] }];
}

/**
 * The programs that open the READMEs, by package: as an ES module, as CommonJS, and as a module without an await at its top,
 * which can be bundled into either.
 */
export function readmePrograms() {
  return publishedPackages().flatMap(({ folder, manifest }) => {
    const [, program] = OPENING_PROGRAM.exec(readFileSync(join(ROOT, folder, 'README.md'), 'utf8')) ?? [];
    if (program === undefined || !manifest.exports['.']) return [];
    const imports = program.match(IMPORT) ?? [];
    const body = program.replace(IMPORT, '');
    const asFunction = `void (async () => {\n${body}\n})();\n`;
    return [
      {
        name: manifest.name.replace('@xenpv/', ''),
        esm: program,
        cjs: `${imports.join('\n').replace(IMPORT, 'const $1 = require($2);').replaceAll(' as ', ': ')}\n${asFunction}`,
        bundled: `${imports.join('\n')}\n${asFunction}`,
      },
    ];
  });
}
