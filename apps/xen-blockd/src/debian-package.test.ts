import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from './package-root.js';

const BUILD = fileURLToPath(new URL('../../scripts/deb/build.mjs', packageRoot));

interface Made {
  readonly path: string;
  readonly files: readonly string[];
}

/** The package of this tree, made under an umask that must not matter. */
function build(out: string): Promise<Made> {
  const options = { out, architecture: process.arch, version: '1.2.3', date: 1_700_000_000, withNode: false };
  const script = `process.umask(0o077); const { buildDeb } = await import(${JSON.stringify(BUILD)});
    console.log(JSON.stringify(await buildDeb(${JSON.stringify(options)})));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => (code === 0 ? resolve(JSON.parse(stdout)) : reject(new Error(`exit code ${code}`))));
  });
}

needs('dpkg-deb').describe('the package for Debian', () => {
  const directory = mkdtempSync(join(tmpdir(), 'deb-test-'));
  let made: Made;

  beforeAll(async () => {
    made = await build(directory);
  }, 60_000);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const dpkg = (...args: string[]) => execFileSync('dpkg-deb', args, { encoding: 'utf8' });

  it('has what an operator finds, and nothing that only we need', () => {
    expect(made.files).toEqual(
      expect.arrayContaining([
        '/etc/xen-blockd.toml',
        '/etc/xen/scripts/block-xen-blockd',
        '/usr/bin/xen-blockd',
        '/usr/lib/systemd/system/xen-blockd.service',
        '/usr/share/bash-completion/completions/xen-blockd',
        '/usr/share/doc/xen-blockd/examples/hardened.conf',
        '/usr/share/man/man8/xen-blockd.8.gz',
        '/usr/share/xen-blockd/grafana/xen-blockd.json',
        '/usr/share/xen-blockd/prometheus/xen-blockd.rules.yml',
      ]),
    );
    // The demo is for who has a clone, or npm.
    expect(made.files.filter((file) => /@xenpv\/(emulator|xenstored)/.test(file))).toEqual([]);
    expect(made.files.filter((file) => /\.(map|ts|cts|cc|h|sources)$|\/test\//.test(file))).toEqual([]);
    expect(dpkg('--field', made.path, 'Depends')).toMatch(/nodejs \(>= 20\)/);
    const listed = dpkg('--contents', made.path).split('\n');
    expect(listed.filter((line) => line !== '' && !/ root\/root /.test(line))).toEqual([]);
    expect(listed.filter((line) => line !== '' && !/^(drwxr-xr-x|-rwxr-xr-x|-rw-r--r--|l)/.test(line))).toEqual([]);
    expect(listed.filter((line) => /^-rwx/.test(line) && /block-xen-blockd$/.test(line))).toHaveLength(1);
  });

  it('has a program that runs from where it lies', () => {
    const root = join(directory, 'root');
    dpkg('--extract', made.path, root);
    const program = join(root, 'usr/bin/xen-blockd');
    expect(existsSync(program)).toBe(true);
    expect(execFileSync(process.execPath, [program, '--version'], { encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+/);
    expect(readFileSync(program, 'utf8')).toMatch(/^#!\/usr\/bin\/node\n/);
  });

  needs('lintian').it(
    'lintian finds no error',
    () => {
      const options = { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C.UTF-8' } } as const;
      const text = execFileSync('lintian', ['--fail-on', 'none', '--tag-display-limit', '0', made.path], options);
      expect(text.split('\n').filter((line) => line.startsWith('E:'))).toEqual([]);
    },
    60_000,
  );
});
