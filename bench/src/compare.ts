/**
 * node dist/compare.js --before FOLDER [options]: another revision's benchmarks and this one's, in turns. What the machine does
 * meanwhile is done to both.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FEWEST_PAIRS, type PairedRatio, pairedRatio, type Verdict, verdict } from './compare/paired.js';
import { ProgramArguments } from './program/arguments.js';

const USAGE = `usage: node bench/dist/compare.js --before FOLDER [options]

Runs the benchmarks of another tree, which is built, and of this one in turns. Prints the ratio of each figure, now over then,
with its interval of 95 %. npm run bench -- --compare REV builds the other one first.

  --before FOLDER  the other tree
  --programs LIST  of bench/dist, with commas; embedded
  --pairs N        at least ${FEWEST_PAIRS}; 9
  --tolerance N    percent by which a figure may be worse; 3
  --json FILE      writes the ratios of all pairs to FILE

Exit codes: 0 nothing became worse, 1 something did, 2 usage.
`;

/** Programs write such; figures that only one of two revisions has are left out. */
type Figures = Readonly<Record<string, number>>;

const args = new ProgramArguments(USAGE, ['before', 'programs', 'pairs', 'tolerance', 'json']);
const NOW = fileURLToPath(new URL('../..', import.meta.url));
const before = args.values.before ?? args.refuse('--before is missing');
const programs = (args.values.programs ?? 'embedded').split(',');
const pairs = args.wholeNumber('pairs') ?? 9;
const tolerance = (args.wholeNumber('tolerance') ?? 3) / 100;
if (pairs < FEWEST_PAIRS) args.refuse(`--pairs is ${pairs}; expected at least ${FEWEST_PAIRS}`);
for (const name of programs)
  for (const root of [before, NOW])
    if (!existsSync(programOf(root, name))) args.refuse(`--programs has ${name}; there is no ${programOf(root, name)}`);

const scratch = mkdtempSync(join(tmpdir(), 'xen-compare-'));
try {
  process.exitCode = report(measurePairs()) ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true });
}

function programOf(root: string, name: string): string {
  return join(root, 'bench', 'dist', `${name}.js`);
}

/** The ratios of each figure. */
function measurePairs(): Map<string, number[]> {
  const ratios = new Map<string, number[]>();
  for (let pair = 0; pair < pairs; pair++) {
    for (const name of programs) {
      process.stderr.write(`pair ${pair + 1} of ${pairs}: ${name}\n`);
      // Neither is always the first.
      const order = pair % 2 === 0 ? [before, NOW] : [NOW, before];
      const found = order.map((root) => measure(root, name));
      const [then, now] = (pair % 2 === 0 ? found : found.reverse()) as [Figures, Figures];
      for (const [figure, value] of Object.entries(now)) {
        // Of 0 there is no ratio.
        if (!then[figure] || !value) continue;
        ratios.set(figure, [...(ratios.get(figure) ?? []), value / then[figure]]);
      }
    }
  }
  return ratios;
}

function measure(root: string, name: string): Figures {
  const json = join(scratch, 'figures.json');
  const run = spawnSync(process.execPath, [programOf(root, name), '--quick', '--json', json], { encoding: 'utf8' });
  if (run.status !== 0)
    throw new Error(`${programOf(root, name)} ended with ${run.status ?? run.signal}: ${run.stdout}${run.stderr}`);
  return JSON.parse(readFileSync(json, 'utf8')) as Figures;
}

/** Prints the table. False: something became worse. */
function report(ratios: ReadonlyMap<string, readonly number[]>): boolean {
  const rows: { figure: string; ratio: PairedRatio; found: Verdict; all: readonly number[] }[] = [];
  for (const [figure, all] of ratios) {
    // Where it was 0 now and then.
    if (all.length < FEWEST_PAIRS) continue;
    const ratio = pairedRatio(all);
    rows.push({ figure, ratio, found: verdict(figure, ratio, tolerance), all });
  }
  console.log('| figure | now over then | 95 % | |\n|---|---|---|---|');
  for (const { figure, ratio, found } of rows) {
    const [middle, low, high] = [ratio.median, ratio.low, ratio.high].map((value) => value.toFixed(3));
    console.log(`| ${figure} | ${middle} | ${low} to ${high} | ${found} |`);
  }
  if (args.values.json) writeFileSync(args.values.json, `${JSON.stringify(rows, null, 2)}\n`);
  return rows.every(({ found }) => found !== 'worse');
}
