import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const examples = join(root, 'examples');
const programs = join(root, 'node_modules');
const template = join(examples, 'template-backend');
const guide = await readFile(join(root, 'docs/writing-a-backend.md'), 'utf8');

/** The files that the guide shows: the language of a block is followed by the name of its file. */
const files = [...guide.matchAll(/^```ts (\S+)\n(.*?)^```$/gms)].map(([, path, text]) => ({ path, text }));
const [command] = guide.match(/^node examples\/template-backend\/new\.mjs .*$/m) ?? [];
const attaching = /^```js\n(.*?)^```$/ms.exec(guide)?.[1];

let folder: string;

// Below examples/, where the packages are installed as a user's are.
beforeAll(async () => {
  folder = await mkdtemp(join(examples, 'guide.tmp.'));
});

afterAll(() => rm(folder, { recursive: true }));

describe('the guide to writing a backend', { timeout: 120_000 }, () => {
  it('shows a program that compiles, and whose tests are green', async () => {
    expect(files.map(({ path }) => path)).toContain('src/device.test.ts');
    const target = join(folder, 'as-shown');
    for (const { path, text } of files) {
      await mkdir(dirname(join(target, path)), { recursive: true });
      await writeFile(join(target, path), text);
    }
    for (const name of ['package.json', 'tsconfig.json', 'vitest.config.ts']) {
      await cp(join(template, name), join(target, name));
    }
    await run(process.execPath, [join(programs, 'typescript/bin/tsc')], { cwd: target });
    const { stdout } = await run(process.execPath, [join(programs, 'vitest/vitest.mjs'), 'run'], { cwd: target });
    expect(stdout).toMatch(/Tests.*4 passed/);
  });

  it('shows the files that its command makes, word for word', async () => {
    const [program, script, type] = command?.split(' ') ?? [];
    expect(program).toBe('node');
    const target = join(folder, 'copied');
    await run(process.execPath, [join(root, script), type, target]);
    for (const { path, text } of files) expect(await readFile(join(target, path), 'utf8'), path).toBe(text);
  });

  it('shows how a device is attached, by a program that runs', async () => {
    expect(attaching).toBeDefined();
    const onEmulated = `
      import { EmulatedXenstored } from '@xenpv/xenstored';
      const xenstored = new EmulatedXenstored();
      XenstoreClient.connect = async () => XenstoreClient.open(xenstored.connect(0));
      const outside = await XenstoreClient.connect();
      void outside.waitFor(async (ops) => (await ops.tryRead('/local/domain/0/backend/vcount/5/0/state')) === '5' || undefined)
        .then(() => outside.write('/local/domain/0/backend/vcount/5/0/state', 6));
    `;
    const file = join(folder, 'attach.mjs');
    const at = attaching!.indexOf('const store');
    await writeFile(file, `${attaching!.slice(0, at)}${onEmulated}${attaching!.slice(at)}process.exit();\n`);
    const { stdout } = await run(process.execPath, [file]);
    expect(stdout).toMatch(/type: 'vcount', domid: 5, devid: 0/);
  });
});
