import { describe, expect, it } from 'vitest';
import { printable } from './errors.js';

const character = (code: number) => String.fromCodePoint(code);

describe('printable text', () => {
  it.each([
    ['C0', [0, 1, 7, 8, 0x0b, 0x1b, 0x1f]],
    ['DEL and C1', [0x7f, 0x80, 0x85, 0x9b, 0x9d, 0x9f]],
    ['line separators', [0x2028, 0x2029]],
    ['bidi controls', [0x061c, 0x200e, 0x200f, 0x202a, 0x202e, 0x2066, 0x2069]],
    ['invisible characters', [0x00ad, 0x200b, 0x200d, 0xfeff]],
    ['lone surrogates', [0xd800, 0xdbff, 0xdc00, 0xdfff]],
  ])('has %s as escapes', (_, codes) => {
    for (const code of codes) {
      expect(printable(`a${character(code)}b`)).toBe(`a\\u${code.toString(16).padStart(4, '0')}b`);
    }
  });

  it('is one line', () => {
    expect(printable('a\r\n\tb')).toBe('a\\r\\n\\tb');
  });

  it('keeps what people write', () => {
    const text = 'Größe 磁盘 💾 é "quoted" \\ back/slash';
    expect(printable(text)).toBe(text);
  });

  it('has invisible characters beyond the first plane as two units', () => {
    expect(printable(character(0xe0041))).toBe('\\udb40\\udc41');
  });

  it('stays JSON when it was JSON', () => {
    const value = { text: `\u001b[31m\u009b${character(0x2028)}${character(0xd800)}${character(0xe0041)}"\\` };
    expect(JSON.parse(printable(JSON.stringify(value)))).toEqual(value);
  });
});
