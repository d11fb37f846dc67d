import { cpSync, existsSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ownFolder } from './own-folder.js';

/** What a package's sources are given that is wrong: another text in a file, below src, instead of one that is there once. */
export interface PlantedDefect {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A package's sources with defects. The package itself is as it was. */
export interface PlantedSources extends Disposable {
  /** A module of them, of its own. */
  load<Module>(file: string): Promise<Module>;
}

/**
 * Copies the sources of the package at `folder`, and plants defects in the copy. Throws if a text is not there, or more
 * than once: the defect would be another one.
 */
export function plantDefects(folder: URL, defects: readonly PlantedDefect[]): PlantedSources {
  const from = fileURLToPath(folder);
  const copy = ownFolder(tmpdir(), 'planted');
  cpSync(join(from, 'src'), join(copy, 'src'), { recursive: true, filter: (path) => !path.endsWith('.test.ts') });
  cpSync(join(from, 'package.json'), join(copy, 'package.json'));
  const imports = join(from, 'node_modules');
  if (existsSync(imports)) symlinkSync(imports, join(copy, 'node_modules'));
  for (const defect of defects) plant(join(copy, 'src', defect.file), defect);
  return {
    load: (file) => import(join(copy, 'src', file)),
    [Symbol.dispose]: () => rmSync(copy, { recursive: true, force: true }),
  };
}

function plant(path: string, { file, from, to }: PlantedDefect): void {
  const parts = readFileSync(path, 'utf8').split(from);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${from}`);
  writeFileSync(path, parts.join(to));
}
