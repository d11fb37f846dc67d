import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { parse as parseToml } from 'smol-toml';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../package-root.js';
import { CONFIG_KEYS, checkConfig, formatProblem, loadConfig } from './config.js';

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
      'disk-limits-for': {},
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
      'growth-seconds': 30,
      'stop-seconds': 5,
      'unflushed-mebibytes': 16,
      'backing-files': true,
      'helper-user': 'xen-blockd-helper',
      'ceph-conf': '/etc/ceph/ceph.conf',
      'ceph-user': 'admin',
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
    ['types = []', 'at least one of'],
    ['typos = 1', 'an unknown key; allowed: the keys types'],
    ['metrics = "nonsense"', 'HOST:PORT'],
    ['page = "*:9106"', 'page: found "*:9106"; allowed: the path of a socket, localhost:PORT'],
    ['page = "10.0.0.1:9106"', 'other machines reach all else'],
    ['page = "localhost"', 'localhost:PORT'],
    ['threads = 1.5', 'threads: found 1.5; allowed: a whole number from 0 to 64'],
    ['transfer = "teleport"', 'transfer'],
    ['image-directories = ["images"]', 'absolute paths'],
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

describe("the operators' guide", () => {
  it('shows every key, and a configuration without a mistake', () => {
    const guide = readFileSync(new URL('../../docs/operations.md', packageRoot), 'utf8');
    const example = /```toml\n(.*?)```/s.exec(guide)?.[1] ?? '';
    writeFileSync(file, example);
    expect(checkConfig(file)).toEqual([]);
    expect(Object.keys(parseToml(example)).sort()).toEqual([...CONFIG_KEYS].sort());
  });
});

describe('a wrong configuration', () => {
  const check = (text: string | Uint8Array) => {
    writeFileSync(file, text);
    return checkConfig(file);
  };

  it('is told whole: every wrong key with its place, what was found, what is allowed, the nearest name', () => {
    const problems = check(
      '# a comment with [brackets] and max-queues = 1\nmax_queus = 4\ntypes = [\n  "vdb", # ]\n]\n' +
        'threads = "8"\nlog-level = "inof"\n"max-queues" = 1000\n[storage]\nengine = 1\n',
    );
    expect(problems.map(({ line, column, key, suggestion }) => [line, column, key, suggestion])).toEqual([
      [2, 1, 'max_queus', 'max-queues'],
      [3, 1, 'types.0', 'vbd'],
      [6, 1, 'threads', undefined],
      [7, 1, 'log-level', 'info'],
      [8, 1, 'max-queues', undefined],
      [9, 1, 'storage', undefined],
    ]);
    expect(problems[4]).toMatchObject({ file, found: '1000', allowed: 'a whole number from 1 to 256' });
  });

  it.each([
    ['a key given twice', 'threads = 1\nthreads = 2\n', 2],
    ['a unit after a number', '\n\nthreads = 4k\n', 3],
    ['a NUL', 'types = ["vbd"]\nmetrics = "/a\0"\n', 2],
    ['no UTF-8', Buffer.from([0x23, 0xc3, 0xa4, 0x0a, 0x23, 0xff, 0x0a]), 2],
    ['a number of more than 64 bits', '\nthreads = 99999999999999999999\n', 2],
  ])('has a line for %s', (_, text, line) => {
    expect(check(text)).toEqual([expect.objectContaining({ file, line })]);
  });

  it.each(['__proto__ = 1', 'constructor = 1', 'toString = 1', '"" = 1'])('refuses the key of %s', (text) => {
    expect(check(text)).toEqual([expect.objectContaining({ line: 1, found: 'an unknown key' })]);
  });

  it.each(['localhost:99999', 'localhost', 'localhost:'])('refuses metrics on %s', (address) => {
    expect(check(`metrics = "${address}"`)).toEqual([expect.objectContaining({ key: 'metrics', line: 1 })]);
  });

  it('points at what is no TOML with a caret', () => {
    const [problem] = check('threads = 1\n  engine auto\n');
    const [, source, caret] = formatProblem(problem!).split('\n');
    expect(source).toBe('      engine auto');
    expect(caret).toMatch(/^ {6,}\^$/);
  });

  it('never forges a line of the message', () => {
    const problems = check('"a\\nb\\u001b[31m" = 1\nengine = "x\\ny"\n');
    expect(problems).toHaveLength(2);
    for (const { key, found } of problems) expect(`${key}${found}`).not.toMatch(/[\x00-\x1f]/);
  });

  it('is a directory or not there', () => {
    for (const path of [directory, join(directory, 'none')]) {
      expect(checkConfig(path)).toEqual([expect.objectContaining({ file: path, line: undefined })]);
    }
  });

  it('of any kind ends in no problem or in problems with a line of the file', () => {
    const sample = 'types = ["vbd3", "vbd"]\nthreads = 2\nmetrics = "localhost:9105" # x\ndirect = true\n';
    const mutation = fc.tuple(
      fc.nat(sample.length),
      fc.nat(8),
      fc.oneof(fc.string(), fc.constantFrom('[', '"""', '{')),
    );
    fc.assert(
      fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
        let text = sample;
        for (const [at, gone, put] of mutations) text = text.slice(0, at) + put + text.slice(at + gone);
        const lines = text.split('\n').length;
        for (const { line } of check(text)) {
          expect(line).toBeGreaterThanOrEqual(1);
          expect(line).toBeLessThanOrEqual(lines);
        }
      }),
      { numRuns: 300 },
    );
  });
});
