import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Finding } from '../daemon/check/finding.js';
import { runBlockd } from '../testing/process.js';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'command-line-test-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('a machine without Xen', () => {
  afterEach(() => vi.unstubAllEnvs());

  needs('Linux').it('is told apart: exit code 69 and what is missing', async () => {
    vi.stubEnv('XENSTORED_PATH', '/nonexistent/xenstored');
    const run = await runBlockd('run');
    expect(run).toMatchObject({ code: 69, stdout: '' });
    expect(run.stderr).toMatch(/^xen-blockd: [^\n]+\n$/);
    const check = await runBlockd('check', '--json');
    expect(check.code).toBe(69);
    const findings: Finding[] = JSON.parse(check.stdout);
    const addon = findings.find(({ name }) => name === 'native addon')!;
    // Without the addon nothing behind it can be looked for.
    const missing = findings.filter(({ needed, ok }) => needed && !ok).map(({ name }) => name);
    expect(missing).toContain(addon.ok ? 'xenstore' : 'native addon');
  });

  it('a query finds no daemon', async () => {
    const outcome = await runBlockd('list', '--socket', join(directory, 'none'));
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toContain('no daemon answers');
  });

  it('leave to shrink is for one disk', async () => {
    const outcome = await runBlockd('refresh', '--allow-shrink', '--socket', join(directory, 'none'));
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
    expect(outcome.stderr).toContain('--allow-shrink needs the name of the disk');
  });

  it('a wrong configuration has exit code 78', async () => {
    const config = join(directory, 'config');
    writeFileSync(config, 'types = ["floppy"]\n');
    const outcome = await runBlockd('run', '--config', config);
    expect(outcome.code).toBe(78);
    expect(outcome.stderr).toContain(
      `${config}:1:1: types.0: found "floppy"; allowed: a list of at least one of qdisk`,
    );
  });

  it('check --config tells what is wrong in a configuration without starting', async () => {
    const config = join(directory, 'config');
    writeFileSync(config, 'threads = 2\n');
    expect(await runBlockd('check', '--config', config)).toMatchObject({ code: 0, stderr: '' });
    writeFileSync(config, 'threads = 65\nengin = "auto"\n');
    const text = await runBlockd('check', '--config', config);
    expect(text.code).toBe(78);
    expect(text.stderr).toContain(`${config}:1:1: threads: found 65; allowed: a whole number from 0 to 64`);
    expect(text.stderr).toContain(`${config}:2:1: engin: found an unknown key`);
    const json = await runBlockd('check', '--config', config, '--json');
    expect(json.code).toBe(78);
    expect(JSON.parse(json.stdout)).toMatchObject([
      { file: config, line: 1, column: 1, key: 'threads', found: '65' },
      { line: 2, column: 1, key: 'engin', suggestion: 'engine' },
    ]);
  });

  it('a wrong option is wrong usage and not the fault of the file', async () => {
    const config = join(directory, 'config');
    writeFileSync(config, 'metrics = "localhost:9105"\n');
    const outcome = await runBlockd('run', '--config', config, '--metrics', 'localhost');
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toContain('--metrics localhost: allowed: the path of a socket, or HOST:PORT');
    expect(outcome.stderr).not.toContain(config);
  });
});

describe('the options of run', () => {
  it('are told with the defaults of the configuration', async () => {
    const { code, stdout } = await runBlockd('run', '--help');
    expect(code).toBe(0);
    const text = stdout.replace(/\s+/g, ' ');
    const defaults = ['qdisk', 'info', '/run/xen-blockd/control', 'auto'];
    for (const value of defaults) expect(text).toContain(`(default: ${value})`);
  });

  it.each([
    ['--threads', '65', 'from 0 to 64'],
    ['--poll-microseconds', '10001', 'from 0 to 10000'],
    ['--type', 'floppy', 'qdisk, vbd3, vbd'],
    ['--transfer', 'teleport', 'copy, map, persistent'],
  ])('%s %s is wrong usage', async (option, value, text) => {
    const outcome = await runBlockd('run', option, value);
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
    expect(outcome.stderr).toContain(text);
  });
});
