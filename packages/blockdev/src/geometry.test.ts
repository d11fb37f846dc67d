import { expect, it } from 'vitest';
import { openError } from './errors.js';
import { checkGeometry, wholeSectors } from './geometry.js';

it('a size that a number does not have exactly is refused, before requests go to other sectors', () => {
  expect(wholeSectors(2 ** 53 - 1, 512, '/large')).toBe(2 ** 53 - 512);
  for (const size of [2 ** 53, 2 ** 63 - 4096]) {
    expect(() => wholeSectors(size, 512, '/large')).toThrow(/^\/large has \d+ bytes, more than can be counted exactly/);
    expect(() => checkGeometry(size, 512, 'a disk')).toThrow(expect.objectContaining({ code: 'EFBIG' }));
  }
});

it('what is not resized was open', () => {
  const tooLarge = Object.assign(new Error('EFBIG'), { code: 'EFBIG' });
  expect(openError(tooLarge, 'resize', '/a').message).toBe('/a cannot be resized (EFBIG)');
  expect(openError(tooLarge, 'open', '/a').message).toBe('/a cannot be opened (EFBIG)');
});
