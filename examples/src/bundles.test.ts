import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const examples = fileURLToPath(new URL('..', import.meta.url));

/** Loads both addons, and reads by whatever engine there is. */
const PROGRAM = `
import { writeFileSync, rmSync } from 'node:fs';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { allocateMemory, BlockOp, openFileImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';

async function main() {
  try {
    requireNativeAddon();
    console.log('addon');
  } catch (error) {
    console.log(error.code);
  }
  const path = process.argv[2];
  writeFileSync(path, new Uint8Array(1 << 16).fill(7));
  const image = await openFileImage(path);
  const memory = allocateMemory(1 << 16);
  const queue = image.createQueue({ depth: 4, memory });
  await new Promise((resolve) => {
    queue.onComplete((_tags, results) => resolve(console.log(results[0], new Uint8Array(memory.buffer ?? memory)[0])));
    queue.push(BlockOp.read, 1, 0, 512, Float64Array.of(0, 0, 512), 1);
    queue.submit();
  });
  await image.close();
  const host = await EmulatedHost.create();
  await host.close();
  rmSync(path);
}

void main();
`;

let folder: string;
let elsewhere: string;

// Below examples/, where the packages are installed as a user's are.
beforeAll(async () => {
  folder = await mkdtemp(join(examples, 'bundles.tmp.'));
  elsewhere = await mkdtemp(join(tmpdir(), 'bundles-'));
  await writeFile(join(folder, 'program.mjs'), PROGRAM);
});

afterAll(() => Promise.all([rm(folder, { recursive: true }), rm(elsewhere, { recursive: true })]));

/** pnpm's script that starts vitest names a folder with the packages there. */
const env = { ...process.env, NODE_PATH: '' };
const addon = needs(working('the native addon', requireNativeAddon));

// `npm run release` has rollup too.
describe.each(['esm', 'cjs'] as const)('one file made by esbuild, %s', (format) => {
  const name = `program.bundled.${format === 'esm' ? 'mjs' : 'cjs'}`;

  beforeAll(async () => {
    await build({
      ...{ entryPoints: [join(folder, 'program.mjs')], outfile: join(folder, name), format },
      ...{ bundle: true, platform: 'node', target: 'node20', logLevel: 'silent' },
    });
  });

  addon.it('loads the addons of the packages that are installed beside it', async () => {
    const { stdout } = await run(process.execPath, [join(folder, name), join(folder, `${name}.img`)], { env });
    expect(stdout).toBe('addon\n512 7\n');
  });

  it('does without where nothing is installed', async () => {
    await cp(join(folder, name), join(elsewhere, name));
    const { stdout } = await run(process.execPath, [join(elsewhere, name), join(elsewhere, `${name}.img`)], { env });
    expect(stdout).toBe('ERR_NO_ADDON\n512 7\n');
  });
});
