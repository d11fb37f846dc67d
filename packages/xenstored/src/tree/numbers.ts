/** Largest and smallest of a C long. */
const LONG_MAX = 2n ** 63n - 1n;
const LONG_MIN = -(2n ** 63n);

/** A long as strtol(3) makes it of digits, stored into an int. */
function toInt(sign: string, digits: string): number {
  const value = sign === '-' ? -BigInt(digits) : BigInt(digits);
  const long = value > LONG_MAX ? LONG_MAX : value < LONG_MIN ? LONG_MIN : value;
  return Number(BigInt.asIntN(32, long));
}

const LEADING = /^[\t-\r ]*([+-]?)([0-9]+)/;

/** A number as atoi(3) reads it: leading blanks, a sign, digits, then anything; 0 if there is none. */
export function looseNumber(text: string): number {
  const match = LEADING.exec(text);
  return match === null ? 0 : toInt(match[1], match[2]);
}

/** A domain number as the C daemon reads it. */
export function looseDomid(text: string): number {
  return looseNumber(text) >>> 0;
}

const WHOLE = /^[\t-\r ]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;

/** A number as strtol(3) reads it with base 0, hexadecimal and octal too, or undefined if the text is anything else. */
export function wholeNumber(text: string): number | undefined {
  const match = WHOLE.exec(text);
  if (match === null) return undefined;
  const digits = /^0[0-7]/.test(match[2]) ? `0o${match[2].slice(1)}` : match[2];
  return toInt(match[1], digits);
}
