import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterAll, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../dist/crash.js', import.meta.url));
const TIMEOUT_MS = 120_000;
/** Of a round that has both storages, on one thread. */
const HELPED_SEED = 7;
const addon = working('the addon of xen-sys', requireNativeAddon);
const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-crash-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the built program: the packages are built before the tests. */
async function crash(...args: string[]) {
  const json = join(folder, 'results.json');
  rmSync(json, { force: true });
  const { code, output } = await new Promise<{ code: number; output: string }>((resolve) => {
    const child = execFile(process.execPath, [PROGRAM, '--json', json, '--dir', folder, ...args], (_, out, err) =>
      resolve({ code: child.exitCode ?? 1, output: out + err }),
    );
  });
  return { code, output, results: existsSync(json) ? JSON.parse(readFileSync(json, 'utf8')) : undefined };
}

needs(addon).describe('the daemon as a process that is killed at any instant', () => {
  /** `npm run test:crash` is the long form. */
  it(
    'loses nothing, whatever happens to its guests meanwhile',
    async () => {
      const { code, output, results } = await crash('--kills', '12', '--seed', '12', '--storage', 'io_uring,threads');
      expect([code, output]).toEqual([0, expect.stringContaining('problems: 0')]);
      expect(results.kills).toBe(12);
      expect(results.verified).toBeGreaterThan(0);
      // The kills hit something.
      expect(results.recovered).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );

  /** What was acknowledged and not flushed is kept by the daemon here, and helpers outlive it. */
  needs('qemu-img', 'qemu-nbd', 'qemu-storage-daemon').it(
    'loses nothing on qcow2 images and an NBD server',
    async () => {
      const { code, output, results } = await crash(
        ...['--kills', '16', '--seed', String(HELPED_SEED), '--storage', 'qcow2,nbd', '--happenings', 'none'],
      );
      expect([code, output]).toEqual([0, expect.stringContaining('problems: 0')]);
      expect(output).toMatch(/seed .*qcow2 .*nbd |seed .*nbd .*qcow2 /);
      expect(results.kills).toBe(16);
      expect(results.verified).toBeGreaterThan(0);
      expect(results.recovered).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );

  it.each([
    ['a journal', 'journal'],
    ['storage that keeps each sector', 'storage'],
  ])(
    'without %s the command finds losses, and tells how to find them again',
    async (_, what) => {
      const { code, output, results } = await crash(
        ...['--break', what, '--kills', '500', '--seed', '2', '--patience', '10'],
        ...['--storage', 'threads', '--happenings', 'none'],
      );
      expect([code, output]).toEqual([
        1,
        expect.stringMatching(/FAILED:[\s\S]*again: npm run test:crash -- .*--seed 2/),
      ]);
      expect(readFileSync(join(results.failure.evidence, 'problems.txt'), 'utf8')).toContain(
        results.failure.problems[0],
      );
      expect(existsSync(join(results.failure.evidence, 'xenstore.txt'))).toBe(true);
    },
    TIMEOUT_MS,
  );

  it('says which options it has, and what is wrong with one', async () => {
    expect(await crash('--help')).toMatchObject({ code: 0, output: expect.stringContaining('--kills N') });
    for (const [option, value, message] of [
      ['--kills', 'many', '--kills is many; expected a whole number'],
      ['--storage', 'tape', 'expected io_uring, threads'],
      ['--happenings', 'rain', 'expected none, or of reboot'],
      ['--break', 'all', 'expected none, journal, storage'],
    ]) {
      expect(await crash(option, value)).toMatchObject({ code: 2, output: expect.stringContaining(message) });
    }
  });
});
