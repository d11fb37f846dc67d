import { readFile, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve } from 'node:path';
import type { Options } from 'tsup';

/** What the converter to CommonJS makes of `import(expression)`. */
const REQUIRED_LATE = /Promise\.resolve\(\)\.then\(\(\) => _interopRequireWildcard\(require\(([\w.]+)\)\)\)/g;

/**
 * `import(expression)` as it was written, in CommonJS too, which has it: a module that is only known at run time may be an
 * ES module, and its name a file: URL, which `require` takes neither of.
 */
const mendsCommonJs: NonNullable<Options['plugins']>[number] = {
  name: 'mends-common-js',
  async buildEnd({ writtenFiles }) {
    for (const { name } of writtenFiles.filter((file) => file.name.endsWith('.cjs'))) {
      const code = await readFile(name, 'utf8');
      const kept = code.replace(REQUIRED_LATE, 'import($1)');
      if (kept !== code) await writeFile(name, kept);
      // The converter's maps name the folder in which they were built.
      const map = await readFile(`${name}.map`, 'utf8').catch(() => undefined);
      if (map === undefined) continue;
      const { sources, ...rest } = JSON.parse(map) as { readonly sources: readonly string[] };
      const relatives = sources.map((source) =>
        isAbsolute(source) ? relative(dirname(resolve(name)), source) : source,
      );
      await writeFile(`${name}.map`, JSON.stringify({ ...rest, sources: relatives }));
    }
  },
};

/** What every package shares: ES modules and CommonJS for Node 20, types by a second run (`build:types`). */
export const base: Options = {
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  sourcemap: true,
  // The maps name files and lines, for stack traces; the sources themselves are twice as much as the code.
  esbuildOptions: (options) => {
    options.sourcesContent = false;
  },
  plugins: [mendsCommonJs],
  clean: false,
  splitting: true,
  shims: false,
};
