/**
 * Compiles all code that READMEs, docs/ and `@example` show, as the strictest TypeScript that users have, and runs what can
 * run without Xen. `node scripts/checks/documented-code.mjs [PAGE ...]` tries these alone.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { documentedPrograms } from '../lib/documented-code.mjs';
import { run } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';

const OPTIONS = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.es2024.sharedmemory.d.ts'],
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  verbatimModuleSyntax: true,
  moduleDetection: ts.ModuleDetectionKind.Force,
  skipLibCheck: true,
};
const SECONDS = 60;
const AT_ONCE = 2;

/** Resolves with a note. Errors: one that has what does not compile, or does not run, as `output`. */
export async function checkDocumentedCode(pages = []) {
  const all = documentedPrograms().filter(({ page }) => pages.length === 0 || pages.includes(page));
  // Below examples/, where the packages are installed as a user's are.
  const folder = mkdtempSync(join(ROOT, 'examples', 'documented.tmp.'));
  try {
    const programs = all.map((program, index) => ({ ...program, path: join(folder, pathOf(program, index)) }));
    for (const { path, text } of programs) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
    const problems = compileErrors(programs);
    const runnable = programs.filter(({ compiledOnly }) => compiledOnly === undefined);
    if (problems.length === 0) problems.push(...(await runErrors(runnable)));
    if (problems.length === 0) return `${programs.length} programs, ${runnable.length} of them run`;
    throw Object.assign(new Error(`${problems.length} problems`), { output: problems.join('\n') });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The files of a page lie in one folder, and every other program in its own. */
function pathOf({ page, file }, index) {
  return file === undefined ? `${index}.mts` : join(page.replaceAll(/\W/g, '-'), file);
}

function compileErrors(programs) {
  const places = new Map(programs.map(({ path, place }) => [path, place]));
  const program = ts.createProgram([...places.keys()], { ...OPTIONS, noEmit: true });
  const problems = [...places.keys()].flatMap((path) => ts.getPreEmitDiagnostics(program, program.getSourceFile(path)));
  return problems.map(({ file, start = 0, messageText }) => {
    const line = file?.text.slice(0, start).split('\n').length ?? 0;
    const shown = file?.text.split('\n')[line - 1]?.trim();
    return `${places.get(file?.fileName)}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}\n    ${shown}`;
  });
}

async function runErrors(programs) {
  const problems = [];
  const waiting = [...programs];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      await runProgram(next).catch(({ message, output }) => problems.push(`${next.place}: ${message}\n${output}`));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return problems;
}

/** A program ends by itself, as what opens a README does: what keeps Node alive was not closed. */
function runProgram({ path, text }) {
  const script = path.replace(/mts$/, 'mjs');
  writeFileSync(script, ts.transpileModule(text, { compilerOptions: OPTIONS, fileName: path }).outputText);
  return run('its program', 'timeout', [`${SECONDS}`, process.execPath, script], { cwd: dirname(path) });
}

if (process.argv[1] === `${ROOT}/scripts/checks/documented-code.mjs`) {
  await checkDocumentedCode(process.argv.slice(2)).then(console.log, (error) => {
    console.log(`${error.output ?? error.stack}\n${error.message}`);
    process.exitCode = 1;
  });
}
