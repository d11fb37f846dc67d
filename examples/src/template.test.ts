import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const examples = fileURLToPath(new URL('..', import.meta.url));
const copy = join(examples, 'template-backend/new.mjs');
const programs = join(examples, '../node_modules');

let folder: string;

// Below examples/, where the packages are installed as a user's are.
beforeAll(async () => {
  folder = await mkdtemp(join(examples, 'template.tmp.'));
});

afterAll(() => rm(folder, { recursive: true }));

describe('the template of a backend, copied by its one command', { timeout: 120_000 }, () => {
  it('is renamed, its types are right, its program is built and its own tests are green', async () => {
    const target = join(folder, 'vsnd-backend');
    const { stdout } = await run(process.execPath, [copy, 'vsnd', target]);
    expect(stdout).toContain('npm install && npm test');
    const device = await readFile(join(target, 'src/device.ts'), 'utf8');
    expect(device).toContain('class VsndDevice');
    expect(device).not.toMatch(/vtemplate/i);
    const manifest = await readFile(join(target, 'package.json'), 'utf8');
    expect(manifest).not.toContain('workspace:');
    await run(process.execPath, [join(programs, 'typescript/bin/tsc')], { cwd: target });
    const [, ...build] = JSON.parse(manifest).scripts.build.split(' ');
    await run(process.execPath, [join(programs, 'tsup/dist/cli-default.js'), ...build], { cwd: target });
    const tests = await run(process.execPath, [join(programs, 'vitest/vitest.mjs'), 'run'], { cwd: target });
    expect(tests.stdout).toMatch(/Tests.*4 passed/);
    // Where there is no Xen, its program says so and ends.
    const env = { ...process.env, XENSTORED_PATH: join(target, 'no-socket') };
    const ended = await run(process.execPath, ['dist/main.js'], { cwd: target, env }).catch((error: unknown) => error);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/^xenstore connect: .*no-socket.*\n$/) });
  });

  it.each([
    ['nothing', [], 2, 'usage: '],
    ['no folder', ['vsnd'], 2, 'usage: '],
    ['too much', ['vsnd', 'a', 'b'], 2, 'usage: '],
    ['a name that no class can have', ['v/snd', 'x'], 2, 'the type "v/snd" must be small letters and digits'],
    ['a folder that is there', ['vsnd', '.'], 1, 'is there already'],
  ])('is not copied when told %s', async (_what, args, code, text) => {
    const failed = await run(process.execPath, [copy, ...args], { cwd: folder }).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code, stderr: expect.stringContaining(text) });
  });
});
