import { BlockdError } from '../../errors.js';

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/** A size as an operator says it: bytes in all, or how many more there shall be. */
export interface AskedSize {
  readonly bytes: number;
  readonly more: boolean;
}

/** `10G`, `+5G`, `20480M`, `1.5TiB`, or bytes without a unit; units are powers of 1024. Error: ERR_USAGE. */
export function parseSize(text: string): AskedSize {
  const [, plus, digits, unit = ''] = /^(\+?)(\d+(?:\.\d+)?)(?:([KMGTP])(?:iB)?)?$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** UNITS.indexOf(unit.toUpperCase());
  if (Number.isSafeInteger(bytes)) return { bytes, more: plus === '+' };
  const form = 'expected as 10G, 20480M, bytes without a unit, or +5G for so much more';
  throw new BlockdError('ERR_USAGE', 'read size', `size ${text}: ${form}`);
}
