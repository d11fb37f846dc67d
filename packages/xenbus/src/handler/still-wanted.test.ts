import { describe, expect, it } from 'vitest';
import { XenbusState as S } from '../states.js';
import { stillConnects, stillPrepares, stillTells } from './still-wanted.js';

const before = { backend: S.initWait, frontend: S.initialised, online: true, gated: false } as const;

describe.each([
  ['prepare', stillPrepares],
  ['connect', stillConnects],
  ['changed', stillTells],
])('a call of %s', (_name, still) => {
  it('is wanted while nothing changes', () => {
    expect(still(before)(before)).toBe(true);
  });

  it.each([
    ['the directory is deleted', { backend: undefined }],
    ['the toolstack writes Closing', { backend: S.closing }],
    ['the directory is made anew', { backend: S.initialising }],
    ['the toolstack says offline', { online: false }],
  ])('is not wanted any more when %s', (_change, change) => {
    expect(still(before)({ ...before, ...change })).toBe(false);
  });
});

describe('a frontend', () => {
  it.each([
    [S.unknown, false, false],
    [S.initialising, true, false],
    [S.initialised, true, true],
    [S.connected, true, true],
    [S.closing, true, false],
    [S.closed, true, false],
  ] as const)('in state %i: prepare goes on is %s, connect goes on is %s', (frontend, prepares, connects) => {
    const stillIsPrepared = stillPrepares(before);
    stillIsPrepared(before);
    expect(stillIsPrepared({ ...before, frontend })).toBe(prepares);
    expect(stillConnects(before)({ ...before, frontend })).toBe(connects);
  });

  it('that was never there does not end prepare', () => {
    expect(stillPrepares(before)({ ...before, frontend: S.unknown })).toBe(true);
  });
});
