import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

type ErrorClass = new (...args: unknown[]) => Error;
type Exports = Readonly<Record<string, unknown>>;

const require = createRequire(import.meta.url);
const packages = await readdir(fileURLToPath(new URL('../../packages/', import.meta.url)));

/** Both copies that a program may have of a package at once. */
const copies = await Promise.all(
  packages.map(async (name) => {
    const specifier = `@xenpv/${name}`;
    return { name, esm: (await import(specifier)) as Exports, cjs: require(specifier) as Exports };
  }),
);

function errorClasses(exports: Exports): Map<string, ErrorClass> {
  const found = Object.entries(exports).filter(
    ([name, value]) => name.endsWith('Error') && typeof value === 'function',
  );
  return new Map(found.filter(([, value]) => (value as ErrorClass).prototype instanceof Error)) as Map<
    string,
    ErrorClass
  >;
}

const all = copies.flatMap(({ name, esm, cjs }) =>
  [...errorClasses(esm)].map(([className, ofEsm]) => ({
    name,
    className,
    ofEsm,
    ofCjs: errorClasses(cjs).get(className)!,
  })),
);

describe('the errors of the packages', () => {
  it('are there, one class in each package that fails by itself', () => {
    const without = copies.filter(({ esm }) => errorClasses(esm).size === 0).map(({ name }) => name);
    expect(without).toEqual(['xenstored']);
    expect(all.length).toBe(copies.length - without.length);
  });

  describe.each(all)('$className of @xenpv/$name', ({ className, ofEsm, ofCjs }) => {
    const thrown = [new ofEsm('EINVAL', 'try', 'text'), new ofCjs('EINVAL', 'try', 'text')];

    it('are instances of the class of either copy, and of no other package', () => {
      expect(ofEsm).not.toBe(ofCjs);
      for (const error of thrown) {
        const classes = all.filter(({ ofEsm, ofCjs }) => [ofEsm, ofCjs].some((other) => error instanceof other));
        expect(classes.map((other) => other.className)).toEqual([className]);
        expect(error).toBeInstanceOf(ofEsm);
        expect(error).toBeInstanceOf(ofCjs);
      }
    });

    it('have one shape', () => {
      for (const error of thrown) {
        expect(error).toBeInstanceOf(Error);
        expect(error).toMatchObject({ name: className, code: expect.any(String), op: 'try', path: undefined });
        expect(error.message).toContain('text');
      }
    });

    it('do not take what only looks like one', () => {
      for (const other of [undefined, null, 1, 'text', {}, new Error('text'), { ...thrown[0] }, Object.create(null)]) {
        expect(ofEsm[Symbol.hasInstance](other)).toBe(false);
      }
    });

    it('leave a derived class its own instances', () => {
      class Derived extends ofEsm {}
      expect(Derived[Symbol.hasInstance](thrown[0])).toBe(false);
      expect(new Derived('EINVAL', 'try', 'text') instanceof Derived).toBe(true);
      expect(new Derived('EINVAL', 'try', 'text') instanceof ofCjs).toBe(true);
    });

    it('show nothing but their own fields', () => {
      expect(Object.getOwnPropertySymbols(thrown[0])).toEqual([]);
    });
  });
});
