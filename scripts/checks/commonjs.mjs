/**
 * Checks the CommonJS builds for an error of the converter: where a private field has the name of an export, an
 * assignment to the field is taken for one to the export, which it overwrites at run time. Another name is the cure.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, workspacePackages } from '../lib/workspace.mjs';

const OVERWRITTEN = /#(\w+) *[^\s=]{0,3}= *exports\.\1 =/g;

/** Resolves with how many files were read. Errors: one that has what is overwritten as `output`. */
export async function checkCommonJs() {
  const files = workspacePackages()
    .filter(({ manifest }) => manifest.main?.endsWith('.cjs'))
    .flatMap(({ folder }) => {
      const dist = `${folder}/dist`;
      return readdirSync(join(ROOT, dist)).flatMap((name) => (name.endsWith('.cjs') ? [`${dist}/${name}`] : []));
    });
  const problems = files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(OVERWRITTEN)].map(
      ([, name]) => `${file}: assigning #${name} overwrites the export ${name}; give the private field another name`,
    ),
  );
  if (problems.length === 0) return `${files.length} files`;
  throw Object.assign(new Error(`${problems.length} exports are overwritten`), { output: problems.join('\n') });
}
