import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../package-root.js';
import { CONFIG_KEYS, checkConfig, DEFAULTS, loadConfig } from '../config.js';

const SAMPLE = new URL('config/xen-blockd.toml', packageRoot);

describe('the sample configuration', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sample-test-'));
  const path = join(directory, 'config');
  afterAll(() => rmSync(directory, { recursive: true }));

  it('changes nothing as it is', () => {
    writeFileSync(path, readFileSync(SAMPLE));
    writeFileSync(join(directory, 'empty'), '');
    expect(loadConfig(path, {})).toEqual(loadConfig(join(directory, 'empty'), {}));
  });

  it('has every key, with values that are allowed, and the defaults', () => {
    // What is commented out has no space after the sign.
    const text = readFileSync(SAMPLE, 'utf8').replace(/^#(?! )/gm, '');
    writeFileSync(path, text);
    expect(checkConfig(path)).toEqual([]);
    const config = loadConfig(path, {}) as Record<string, unknown>;
    expect(Object.keys(config).sort()).toEqual([...CONFIG_KEYS].sort());
    expect(config).toMatchObject(DEFAULTS);
  });
});
