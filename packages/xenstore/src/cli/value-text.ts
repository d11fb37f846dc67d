const NAMED: Record<number, string> = { 9: '\\t', 10: '\\n', 13: '\\r', 92: '\\\\' };

/** A value as xenstore-read and xenstore-ls show it: one line of ASCII, other bytes as `\n`, `\001` or `\xff`. */
export function showValue(value: Uint8Array): string {
  return Array.from(value, showByte).join('');
}

function showByte(byte: number): string {
  if (NAMED[byte] !== undefined) return NAMED[byte];
  if (byte >= 0x20 && byte < 0x7f) return String.fromCharCode(byte);
  if (byte < 8) return `\\${byte.toString(8).padStart(3, '0')}`;
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}

const ESCAPE = /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|([\s\S]?))/g;
const CONTROLS: Record<string, string> = { n: '\n', r: '\r', t: '\t', '': '\0' };

/**
 * The value that xenstore-write makes of an argument: the reverse of {@link showValue}. A backslash before anything
 * else is dropped, one at the end is a NUL.
 */
export function parseValue(argument: string): Uint8Array {
  const bytes = Buffer.from(argument, 'utf8').toString('latin1');
  const text = bytes.replace(ESCAPE, (_, octal?: string, hex?: string, other = '') => {
    if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
    return CONTROLS[other] ?? other;
  });
  return Buffer.from(text, 'latin1');
}
