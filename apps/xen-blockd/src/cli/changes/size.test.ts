import { expect, it } from 'vitest';
import { parseSize } from './size.js';

it.each([
  ['512', { bytes: 512, more: false }],
  ['+5G', { bytes: 5 * 2 ** 30, more: true }],
  ['20480M', { bytes: 20 * 2 ** 30, more: false }],
  ['1.5TiB', { bytes: 1.5 * 2 ** 40, more: false }],
  ['2k', { bytes: 2048, more: false }],
])('%s is a size', (text, size) => {
  expect(parseSize(text)).toEqual(size);
});

it.each(['ten', '10X', '-1G', '', '+', 'G', '1e9', '0.0001K', '99999999P', '10 G', '10GB', '+-5'])(
  '%j is none',
  (text) => {
    expect(() => parseSize(text)).toThrow(`size ${text}: expected as 10G`);
  },
);
