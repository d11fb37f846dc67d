/** Compiles the floor for dom0, whose C library may be another one. */
import { fileURLToPath } from 'node:url';
import { DEBIAN, install } from '../../../scripts/lib/debian.mjs';
import { run } from '../../../scripts/lib/steps.mjs';

const SOURCE = fileURLToPath(new URL('./floor.c', import.meta.url));

/** Errors: StepError. */
export async function buildFloor(program) {
  const { cc, 'xenctrl.h': headers } = DEBIAN.tests;
  await install('the floor of the benchmark', { cc, headers });
  await run('the floor', 'cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-o', program, SOURCE]);
}
