import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadAddon } from '../addon/addon.js';
import { packageRoot } from '../package-root.js';
import { sdNotify } from '../posix/sd-notify.js';
import { mapSharedFile } from '../posix/shared-file.js';
import { nativeProvider } from './provider.js';

const ROOT = fileURLToPath(packageRoot());
const run = promisify(execFile);

function works(attempt: () => unknown): boolean {
  try {
    attempt();
    return true;
  } catch {
    return false;
  }
}

const addon = { name: 'the native addon', met: () => works(loadAddon) };

const folder = mkdtempSync(join(tmpdir(), 'xen-sys-'));
const devices = join(folder, 'dev');
const library = join(folder, 'fake-xen.so');

afterAll(() => rmSync(folder, { recursive: true }));

needs(addon, 'cc').describe('over fake devices', () => {
  beforeAll(async () => {
    mkdirSync(devices);
    for (const name of ['evtchn', 'gntdev', 'gntalloc', 'privcmd', 'xenbus']) writeFileSync(join(devices, name), '');
    await run('cc', ['-shared', '-fPIC', '-O1', '-o', library, join(ROOT, 'test/fake-xen-devices.c')]);
  });

  // Behind what a run with sanitizers has loaded before it.
  const preloaded = [process.env.LD_PRELOAD, library].filter(Boolean).join(':');

  async function scenario(name: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
    await run(process.execPath, ['--expose-gc', join(ROOT, 'test/scenarios.mjs'), name], {
      cwd: ROOT,
      env: { ...process.env, FAKE_XEN_DIRECTORY: devices, FAKE_XEN_LIBRARY: library, LD_PRELOAD: preloaded, ...env },
      timeout: 60_000,
    });
  }

  test.each([
    'features',
    'conforms to the provider suite',
    'events',
    'many events',
    'sleeps until something happens',
    'grants',
    'copies',
    'foreign memory',
    'xenstore device',
    'xenstore device fails',
    'nothing leaked',
    'nothing leaked to the garbage collector',
    'nothing leaked by worker threads terminated mid-use',
    'unref lets the process end',
    'an error in the listener is an uncaught exception',
  ])('%s', { timeout: 60_000 }, (name) => scenario(name));

  test.each(['events', 'grants', 'copies'])('%s, interrupted by signals', { timeout: 60_000 }, (name) =>
    scenario(name, { FAKE_XEN_INTERRUPT: '1' }),
  );

  test('no permission on a device', { timeout: 60_000 }, () =>
    scenario('no permission', { FAKE_XEN_DENY: `${devices}/gntdev:13` }),
  );
});

needs(addon).describe('what is missing is a typed error', () => {
  const provider = nativeProvider({ deviceDirectory: '/nowhere' });

  test.each([
    ['evtchn', () => provider.openEventChannels()],
    ['gntdev', () => provider.openGrantTable()],
    ['gntalloc', () => provider.openGrantAllocator()],
    ['privcmd', () => provider.openForeignMemory()],
  ])('device %s', (name, open) => {
    expect(open).toThrow(expect.objectContaining({ code: 'ERR_NO_DEVICE', path: `/nowhere/${name}` }));
    expect(open).toThrow(/package (xen-system|linux-image)-/);
  });

  test('every feature is off', () => {
    expect(provider.features).toMatchObject({ grantCopy: false, foreignMemory: false, grantAllocator: false });
  });

  test.each([
    ['missing', 'libnothing.so.1', /libnothing.so.1 is missing .*package libxenforeignmemory1/],
    ['too old', 'libc.so.6', /libc.so.6 is too old .*package libxenforeignmemory1/],
  ])('a library that is %s', (_, foreignMemoryLibrary, message) => {
    writeFileSync(join(folder, 'privcmd'), '');
    const open = () => nativeProvider({ deviceDirectory: folder, foreignMemoryLibrary }).openForeignMemory();
    expect(open).toThrow(expect.objectContaining({ code: 'ERR_NO_LIBRARY', path: foreignMemoryLibrary }));
    expect(open).toThrow(message);
  });

  test('no build of the addon', async () => {
    const copy = join(folder, 'copy');
    cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
    cpSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    for (const [name, load] of [
      ['index.js', 'import'],
      ['index.cjs', 'require'],
    ]) {
      const code = `(async () => (await ${load}(${JSON.stringify(join(copy, 'dist', name))})).requireNativeAddon())()
        .catch(({ code, message }) => console.log(code, message))`;
      // A run with sanitizers names its own build.
      const others = Object.entries(process.env).filter(([name]) => !name.endsWith('_PREBUILD'));
      const { stdout } = await run(process.execPath, ['-e', code], { env: Object.fromEntries(others) });
      expect(stdout).toMatch(/^ERR_NO_ADDON no build of the addon for linux-.*node-gyp rebuild/);
    }
  });
});

needs(addon).describe('mapSharedFile', () => {
  test('every mapping of a file is the same memory, and the file keeps it', () => {
    const path = join(folder, 'shared');
    const first = mapSharedFile(path, 8192);
    const second = mapSharedFile(path, 8192);
    new Uint32Array(first.buffer)[2000] = 42;
    expect(new Uint32Array(second.buffer)[2000]).toBe(42);
    first.close();
    first.close();
    expect(first.buffer.byteLength).toBe(0);
    second.close();
    expect(readFileSync(path).readUInt32LE(8000)).toBe(42);
    const longer = mapSharedFile(path, 16384);
    expect(new Uint32Array(longer.buffer)[2000]).toBe(42);
    longer.close();
  });

  test('errors carry the path', () => {
    const path = join(folder, 'no', 'such');
    expect(() => mapSharedFile(path, 4096)).toThrow(expect.objectContaining({ code: 'ENOENT', path }));
    expect(() => mapSharedFile(folder, 4096)).toThrow(expect.objectContaining({ code: 'EISDIR' }));
    expect(() => mapSharedFile(join(folder, 'empty'), 0)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});

needs(addon, 'cc').describe('sdNotify', () => {
  test.each([join(folder, 'notify'), `@xen-sys-test-${process.pid}`])('one datagram to %s', async (path) => {
    const program = join(folder, 'receive-datagram');
    await run('cc', ['-o', program, join(ROOT, 'test/receive-datagram.c')]);
    const receiver = spawn(program, [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [bound] = await once(receiver.stdout, 'data');
    expect(String(bound)).toBe('bound\n');
    const received = once(receiver.stdout, 'data');
    process.env.NOTIFY_SOCKET = path;
    expect(sdNotify('READY=1\nSTATUS=serving')).toBe(true);
    expect(String(await received)).toBe('READY=1\nSTATUS=serving');
  });

  test('nobody asked, or nobody listens', () => {
    delete process.env.NOTIFY_SOCKET;
    expect(sdNotify('READY=1')).toBe(false);
    process.env.NOTIFY_SOCKET = join(folder, 'nobody');
    expect(() => sdNotify('READY=1')).toThrow(
      expect.objectContaining({ code: 'ENOENT', path: join(folder, 'nobody') }),
    );
    delete process.env.NOTIFY_SOCKET;
  });
});
