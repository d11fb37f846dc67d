import { execFile } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { needs, working } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../package-root.js';
import { loadAddon } from './addon.js';

const run = promisify(execFile);
const ROOT = fileURLToPath(packageRoot());
const PREBUILD = `prebuilds/linux-${process.arch}/xen-sys.glibc.node`;
const MUSL_PREBUILD = `prebuilds/linux-${process.arch}/xen-sys.musl.node`;

/** An installed copy of the package, without a build of the addon. */
let copy: string;

beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), 'native-build-'));
  cpSync(join(ROOT, 'dist'), join(copy, 'dist'), { recursive: true });
  copyFileSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
});

afterEach(() => rmSync(copy, { recursive: true }));

function install(path: string, content: Uint8Array | string): void {
  mkdirSync(dirname(join(copy, path)), { recursive: true });
  writeFileSync(join(copy, path), content);
}

/** What loading the copy's addon ends with, in a process of its own. */
async function load(before = ''): Promise<string> {
  const code = `${before}; const { requireNativeAddon } = require(${JSON.stringify(join(copy, 'dist/index.cjs'))});
    for (const again of [1, 2]) try { requireNativeAddon(); console.log('loaded'); }
    catch ({ code, message, path, cause }) { console.log(code + '|' + message + '|' + path + '|' + cause?.errors?.length); }`;
  // A run with sanitizers names its own build.
  const others = Object.entries(process.env).filter(([name]) => !name.endsWith('_PREBUILD'));
  const { stdout } = await run(process.execPath, ['-e', code], { env: Object.fromEntries(others) });
  const [first, second] = stdout.trim().split('\n');
  expect(second).toBe(first);
  return first ?? '';
}

describe('an addon that cannot be had', () => {
  it('because this is not Linux', async () => {
    const outcome = await load("Object.defineProperty(process, 'platform', { value: 'darwin' })");
    expect(outcome).toContain('ERR_NOT_LINUX|the addon of @xenpv/xen-sys is for Linux, and this is darwin|');
  });

  needs('Linux').it(
    'because there is no build for this machine: the message has the command that makes one',
    async () => {
      const outcome = await load();
      expect(outcome).toMatch(
        /^ERR_NO_ADDON\|no build of the addon for linux-\w+-(glibc-[\d.]+|musl) in .*npx node-gyp rebuild/,
      );
    },
  );

  needs('Linux').it('because its build is no library: the message has the loader’s words', async () => {
    install(PREBUILD, 'not a library');
    const outcome = await load();
    expect(outcome).toMatch(
      /^ERR_ADDON_LOAD\|.* does not load on linux-.*: .*(file too short|invalid ELF header).*node-gyp/,
    );
    expect(outcome).toContain(`|${join(copy, PREBUILD)}|2`);
  });

  needs('Linux').it(
    'because its build for musl is no library, where Node runs with musl and Linux is not Alpine',
    async () => {
      install(PREBUILD, 'not a library');
      install(MUSL_PREBUILD, 'not a library either');
      const loaders = ['/lib/ld-musl-x86_64.so.1', join(copy, 'node')];
      writeFileSync(join(copy, 'node'), 'the beginning of an executable, with /lib/ld-musl-aarch64.so.1 as its loader');
      for (const path of loaders) {
        const outcome = await load(`Object.defineProperty(process, 'execPath', { value: ${JSON.stringify(path)} })`);
        expect(outcome).toContain(`|${join(copy, MUSL_PREBUILD)}|2`);
      }
      expect(await load()).toContain(`|${join(copy, PREBUILD)}|2`);
      const gone = "Object.defineProperty(process, 'execPath', { value: '/gone/node' })";
      expect(await load(gone)).toContain(`|${join(copy, PREBUILD)}|2`);
    },
  );

  needs(working('the native addon', loadAddon), 'Linux').it(
    'because its build is for a newer C library: the message names the version',
    async () => {
      const build = readFileSync(join(ROOT, PREBUILD));
      // Version names are in the table of strings, whose hashes the loader does not compare with them.
      const at = build.indexOf('GLIBC_2.14\0') < 0 ? build.indexOf('GLIBC_2.17\0') : build.indexOf('GLIBC_2.14\0');
      build.write('GLIBC_9.99', at, 'latin1');
      const name = Buffer.from('GLIBC_9.99');
      for (const hash of [0x06969194, 0x06969197]) {
        const entry = Buffer.alloc(4);
        entry.writeUInt32LE(hash);
        const place = build.indexOf(entry);
        if (place >= 0) build.writeUInt32LE(elfHash(name), place);
      }
      install(PREBUILD, build);
      expect(await load()).toMatch(/^ERR_ADDON_LOAD\|.*version `GLIBC_9\.99' not found/);
    },
  );
});

needs(working('the native addon', loadAddon), 'Linux').it(
  'an addon that was built on the machine is loaded where the prebuild does not load',
  async () => {
    install(PREBUILD, 'not a library');
    install('native/build/Release/xen-sys.node', readFileSync(join(ROOT, PREBUILD)));
    expect(await load()).toBe('loaded');
  },
);

/** The hash of a name in ELF (System V gABI). */
function elfHash(name: Uint8Array): number {
  let hash = 0;
  for (const byte of name) {
    hash = (hash << 4) + byte;
    const high = hash & 0xf0000000;
    hash = (hash ^ (high >>> 24)) & ~high;
  }
  return hash >>> 0;
}
