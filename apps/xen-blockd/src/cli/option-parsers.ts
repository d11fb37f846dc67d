import { InvalidArgumentError } from 'commander';
import type { Range } from '../daemon/config.js';

/** A parser of whole numbers for commander. */
export function integer([least, most]: Range): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^[0-9]+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${least} to ${most}.`);
  };
}
