import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import debian from '../debian-packages.json' with { type: 'json' };

/** A program or file that a package of Debian brings. */
export type DebianTool = keyof typeof debian.tests | keyof typeof debian.networkStorage;

const TOOLS: Readonly<Record<DebianTool, { readonly package: string; readonly file?: string }>> = {
  ...debian.tests,
  ...debian.networkStorage,
};

/** Where programs are looked for: a user's PATH often lacks the file-system tools. */
const DIRECTORIES = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

export function isDebianTool(name: string): name is DebianTool {
  return Object.hasOwn(TOOLS, name);
}

/** The path of a program or file that tests use, or undefined. */
export function find(name: DebianTool): string | undefined {
  const { file } = TOOLS[name];
  if (file !== undefined) return matches(file).at(-1);
  return DIRECTORIES.map((directory) => join(directory, name)).find(isExecutable);
}

/** The existing paths of a pattern with `*` in the names of folders, sorted. */
function matches(pattern: string): string[] {
  const [before, ...rest] = pattern.split('*');
  if (rest.length === 0) return existsSync(pattern) ? [pattern] : [];
  const folder = before.slice(0, before.lastIndexOf('/'));
  const prefix = before.slice(folder.length + 1);
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith(prefix)) : [];
  return names.sort().flatMap((name) => matches(join(folder, name, rest.join('*'))));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
