import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../package-root.js';
import { BlockdProcess } from '../testing/process.js';
import { withEmulator } from './emulator.js';

const PARTS = ['dist', 'package.json'];

describe('an installation without the emulator', () => {
  const directory = mkdtempSync(join(tmpdir(), 'blockd-'));
  const installed = join(directory, 'node_modules', 'xen-blockd');
  const image = join(directory, 'image');

  beforeAll(() => {
    for (const name of PARTS) cpSync(new URL(name, packageRoot), join(installed, name), { recursive: true });
    mkdirSync(join(directory, 'node_modules', '@xenpv'));
    const xenSys = fileURLToPath(new URL('../../packages/xen-sys', packageRoot));
    symlinkSync(xenSys, join(directory, 'node_modules', '@xenpv', 'xen-sys'));
    writeFileSync(image, Buffer.alloc(4096));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  // pnpm's vitest would let it find everything.
  const run = (...args: string[]) =>
    new BlockdProcess(args, { NODE_PATH: '' }, { program: join(installed, 'dist', 'main.js') }).ended;

  it.each([
    ['demo', []],
    ['run', ['--emulator', directory]],
    ['host', ['--dir', join(directory, 'host')]],
    ['guest', [image, '--dir', directory]],
  ])('says what %s needs', async (command, args) => {
    const { code, stdout, stderr } = await run(command, ...args);
    expect([code, stdout]).toEqual([69, '']);
    expect(stderr).toMatch(
      /^xen-blockd: needs @xenpv\/emulator, which is not installed: npm install @xenpv\/emulator.*\n$/,
    );
  });

  it('is whole otherwise', async () => {
    expect(await run('--version')).toMatchObject({ code: 0, stderr: '' });
    // No Xen is here, or this user may not use it: what it lacks is that.
    const { stderr } = await run('run', '--control-socket', join(directory, 'socket'));
    expect(stderr).not.toContain('emulator');
  });
});

describe('a daemon that joins a host', () => {
  const directory = mkdtempSync(join(tmpdir(), 'blockd-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  it('loads what joining takes, and all of it once', async () => {
    const daemon = new BlockdProcess(['run', '--emulator', directory], { NODE_DEBUG: 'module' });
    const { stderr } = await daemon.ended;
    const loaded = [...stderr.matchAll(/load "[^"]*\/([^/]+)\/dist\/(index|join|attach)\.cjs"/g)];
    expect(loaded.map(([, name, file]) => `${name}/${file}`).sort()).toEqual(['emulator/join', 'xen-sys/index']);
  });
});

describe('what needs the emulator', () => {
  const missing = (name: string) =>
    Object.assign(new Error(`Cannot find package '${name}' imported from x`), { code: 'ERR_MODULE_NOT_FOUND' });

  it.each([
    ['itself', '@xenpv/emulator'],
    ['an entry of it', '@xenpv/emulator/join'],
  ])('is named where %s is missing', async (_, name) => {
    await expect(withEmulator(() => Promise.reject(missing(name)))).rejects.toMatchObject({ code: 'ERR_XEN' });
  });

  it('is loaded where it is there', async () => {
    expect(await withEmulator(async () => 'loaded')).toBe('loaded');
  });

  it.each([
    ['a part of the emulator is missing', missing('@xenpv/xenstored')],
    ['it cannot be loaded', new SyntaxError('unexpected token')],
  ])('fails as it is where %s', async (_, error) => {
    await expect(withEmulator(() => Promise.reject(error))).rejects.toBe(error);
  });
});
