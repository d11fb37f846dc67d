import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadProgram } from './code-cache.js';

interface Program {
  answer(): number;
}

// The starts of a test are of one process, which would find again what it has compiled itself.
setFlagsFromString('--no-compilation-cache');

let folder: string;
let program: string;
let code: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'code-cache-test-'));
  program = join(folder, 'program.cjs');
  code = join(folder, 'code');
  write(42);
});
const others = process.listeners('exit');
afterEach(() => {
  for (const listener of process.listeners('exit')) if (!others.includes(listener)) process.off('exit', listener);
  rmSync(folder, { recursive: true });
});

function write(answer: number): void {
  writeFileSync(program, `exports.answer = () => ${answer}; exports.own = require.resolve('./program.cjs');\n`);
}

const loadFrom = (directory: string | undefined) => loadProgram<Program>(program, directory);
const load = () => loadFrom(code);

/** A start that works, and keeps its code. */
function keep(): void {
  const loaded = load();
  expect(loaded.exports.answer()).toBe(42);
  loaded.works();
  loaded.keep();
}

const kept = () => readdirSync(code);

describe('a program whose code is kept', () => {
  it('is loaded with it, again and again', () => {
    keep();
    for (let start = 0; start < 3; start++) {
      const loaded = load();
      expect([loaded.cached, loaded.exports.answer()]).toEqual([true, 42]);
      loaded.works();
      loaded.works();
      loaded.keep();
    }
    expect(kept()).toHaveLength(1);
  });

  it('that dies while it starts does without the next time', () => {
    keep();
    expect(load().cached).toBe(true);
    const next = load();
    expect([next.cached, next.exports.answer()]).toEqual([false, 42]);
    next.works();
    next.keep();
    expect(load().cached).toBe(true);
  });

  it.each([
    ['leaves it to the next start at an orderly end', 75, true],
    ['takes it along at an unexpected end', 1, false],
  ])('%s, before it works', (_, exitCode, found) => {
    keep();
    load();
    const [atEnd] = process.listeners('exit').slice(-1);
    atEnd(exitCode);
    expect(load().cached).toBe(found);
  });

  it('that was changed is another one, though it is as long as before', () => {
    keep();
    write(43);
    const changed = load();
    expect([changed.cached, changed.exports.answer()]).toEqual([false, 43]);
  });

  it.each<[string, (file: string) => void]>([
    ['is damaged', (file) => writeFileSync(file, 'no code')],
    ['is cut off', (file) => writeFileSync(file, readFileSync(file).subarray(0, 200))],
    ['is empty', (file) => writeFileSync(file, '')],
    ['may be written by others', (file) => chmodSync(file, 0o666)],
    ['lies where others may write', () => chmodSync(code, 0o777)],
    [
      'is a link',
      (file) => {
        const elsewhere = join(folder, 'elsewhere');
        writeFileSync(elsewhere, readFileSync(file), { mode: 0o600 });
        rmSync(file);
        symlinkSync(elsewhere, file);
      },
    ],
    [
      'is a folder',
      (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    ],
  ])('does without it when it %s', (_, change) => {
    keep();
    change(join(code, kept()[0]));
    const loaded = load();
    expect([loaded.cached, loaded.exports.answer()]).toEqual([false, 42]);
    loaded.works();
    loaded.keep();
  });

  it.each<[string, () => string | undefined]>([
    ['no folder is given', () => undefined],
    [
      'others may write there',
      () => {
        mkdirSync(code);
        chmodSync(code, 0o770);
        return code;
      },
    ],
    [
      'the folder cannot be made',
      () => {
        writeFileSync(code, '');
        return join(code, 'below');
      },
    ],
  ])('keeps nothing where %s', (_, directory) => {
    const where = directory();
    const loaded = loadFrom(where);
    loaded.works();
    loaded.keep();
    expect([loaded.exports.answer(), loadFrom(where).cached]).toEqual([42, false]);
  });

  it('keeps the last eight programs only, and no remains of those that died', () => {
    for (let answer = 0; answer < 12; answer++) {
      write(answer);
      const loaded = load();
      loaded.works();
      loaded.keep();
      if (answer < 6) load();
    }
    expect(kept()).toHaveLength(8);
    expect(load().cached).toBe(true);
  });
});
