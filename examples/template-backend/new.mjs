/**
 * Copies this folder and renames the device in it:
 *
 *     node examples/template-backend/new.mjs vsnd ../vsnd-backend
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const template = dirname(fileURLToPath(import.meta.url));
const packages = join(template, '../../packages');
const NOT_COPIED = ['new.mjs', 'node_modules', 'dist'];

const [type, folder, ...rest] = process.argv.slice(2);
if (type === undefined || folder === undefined || rest.length > 0) {
  stop(2, 'usage: node new.mjs TYPE FOLDER, for example: node new.mjs vsnd ../vsnd-backend');
}
if (!/^[a-z][a-z0-9]*$/.test(type)) stop(2, `the type "${type}" must be small letters and digits, such as vsnd`);
const target = resolve(folder);
if (existsSync(target)) stop(1, `${target} is there already; give a folder that is not`);

await mkdir(join(target, 'src'), { recursive: true });
for (const path of await readdir(template, { recursive: true, withFileTypes: true })) {
  const name = join(path.parentPath, path.name).slice(template.length + 1);
  if (!path.isFile() || NOT_COPIED.includes(name.split('/')[0])) continue;
  const text = renamed(await readFile(join(template, name), 'utf8'));
  await writeFile(join(target, name), name === 'package.json' ? await withVersions(text) : text);
}
console.log(`${target}: next, in it: npm install && npm test`);

function renamed(text) {
  const capital = type[0].toUpperCase() + type.slice(1);
  return text.replaceAll('vtemplate', type).replaceAll('Vtemplate', capital);
}

/** The versions of the packages beside the template, where it has a link of the workspace. */
async function withVersions(text) {
  const manifest = JSON.parse(text);
  for (const dependencies of [manifest.dependencies, manifest.devDependencies]) {
    for (const name of Object.keys(dependencies).filter((each) => dependencies[each] === 'workspace:^')) {
      const path = join(packages, name.replace('@xenpv/', ''), 'package.json');
      dependencies[name] = `^${JSON.parse(await readFile(path, 'utf8')).version}`;
    }
  }
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

function stop(code, text) {
  console.error(text);
  process.exit(code);
}
