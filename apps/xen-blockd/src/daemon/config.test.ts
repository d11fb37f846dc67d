import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from './config.js';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'config-test-'));
  file = join(directory, 'xen-blockd.toml');
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the configuration', () => {
  it('has defaults for everything', () => {
    writeFileSync(file, '');
    expect(loadConfig(file, {})).toEqual({
      types: ['qdisk'],
      'log-level': 'info',
      'control-socket': '/run/xen-blockd/control',
      'nbd-directory': '/run/xen-blockd/nbd',
      'journal-directory': '/run/xen-blockd/journal',
      'helper-directory': '/run/xen-blockd/helpers',
      engine: 'auto',
      threads: Math.min(availableParallelism() - 1, 64),
      direct: 'auto',
      'on-error': 'report',
      'on-error-for': {},
      'stall-seconds': 10,
    });
  });

  it('is read from TOML, and the command line wins', () => {
    writeFileSync(
      file,
      'types = ["vbd3", "vbd"]\nlog-level = "debug"\nmetrics = "localhost:9500"\ncontrol-socket = false\n',
    );
    expect(loadConfig(file, { 'log-level': 'warn' })).toMatchObject({
      types: ['vbd3', 'vbd'],
      'log-level': 'warn',
      metrics: 'localhost:9500',
      'control-socket': false,
    });
  });

  it('is left to the file where the command line says nothing', () => {
    writeFileSync(file, 'log-level = "debug"\nthreads = 2\n');
    const config = loadConfig(file, { 'log-level': undefined, threads: undefined, types: ['vbd'] });
    expect(config).toMatchObject({ 'log-level': 'debug', threads: 2, types: ['vbd'] });
  });

  it.each([
    ['types = ["tap"]', 'types.0'],
    ['types = []', 'at least one'],
    ['typos = 1', 'unknown key; the keys are types'],
    ['metrics = "nonsense"', 'HOST:PORT'],
    ['threads = 1.5', 'threads: expected a whole number from 0 to 64'],
    ['transfer = "teleport"', 'transfer'],
    ['image-directories = ["images"]', 'absolute path'],
    ['types = [', ':1:'],
  ])('refuses %s', (text, message) => {
    writeFileSync(file, text);
    expect(() => loadConfig(file, {})).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', exitCode: 78, message: expect.stringContaining(message) }),
    );
    expect(() => loadConfig(file, {})).toThrow(file);
  });

  it('must be there when it is named', () => {
    expect(() => loadConfig(join(directory, 'none'), {})).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
  });
});
