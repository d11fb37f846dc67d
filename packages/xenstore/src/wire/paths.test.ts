import { describe, expect, it } from 'vitest';
import { checkPath, isSpecialPath, pathProblem } from './paths.js';

describe('paths', () => {
  it.each([
    '/',
    '/a',
    '/local/domain/0/backend/qdisk/1/51712',
    'device/vbd',
    '@releaseDomain',
    '/a@b-c_d',
    `/${'a'.repeat(3071)}`,
    'a'.repeat(2048),
  ])('%s is fine', (path) => {
    expect(pathProblem(path)).toBeUndefined();
  });

  it.each([
    ['', 'empty'],
    ['//', 'empty component'],
    ['/a//b', 'empty component'],
    ['/a/', 'slash'],
    ['a/', 'slash'],
    ['/a b', 'only letters'],
    ['/ä', 'only letters'],
    ['/a\0', 'only letters'],
    ['/a.b', 'only letters'],
    [`/${'a'.repeat(3072)}`, '3072'],
    ['a'.repeat(2049), '2048'],
  ])('%j is refused: %s', (path, reason) => {
    expect(pathProblem(path)).toContain(reason);
    expect(() => checkPath(path, 'read')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_PATH', op: 'read' }));
  });

  it.each([
    ['@introduceDomain', true],
    ['@releaseDomain', true],
    ['@releaseDomain/5', true],
    ['@releaseDomain/', false],
    ['@other', false],
    ['/@introduceDomain', false],
  ])('%s special: %s', (path, special) => {
    expect(isSpecialPath(path)).toBe(special);
  });
});
