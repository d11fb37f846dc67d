import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FieldSpec, formatField, parseField } from './fields.js';

describe('fields', () => {
  it.each<[FieldSpec, string, unknown]>([
    [{ type: 'string' }, '', ''],
    [{ type: 'uint' }, '0', 0],
    [{ type: 'uint' }, '4294967295', 4294967295],
    [{ type: 'int' }, '-5', -5],
    [{ type: 'uint64' }, '9007199254740991', Number.MAX_SAFE_INTEGER],
    [{ type: 'bigint' }, '18446744073709551615', 2n ** 64n - 1n],
    [{ type: 'domid' }, '32752', 32752],
    [{ type: 'boolean' }, '1', true],
    [{ type: 'boolean' }, '0', false],
    [{ type: 'enum', values: ['disk', 'cdrom'] }, 'cdrom', 'cdrom'],
    [{ type: 'list', of: 'uint', separator: ',' }, '1,2', [1, 2]],
    [{ type: 'list', of: 'string' }, '', []],
  ])('%j reads %j', (field, text, value) => {
    expect(parseField(field, text)).toEqual({ value });
    expect(formatField(field, value)).toEqual({ text });
  });

  it.each([
    ' 12',
    '12 ',
    '12abc',
    '-1',
    '+1',
    '0x10',
    '1e3',
    '1.0',
    '',
    '01',
    '4294967296',
    '-0',
    '१',
    'NaN',
    '12\n',
    '12\0',
  ])('no uint: %j', (text) => {
    expect(parseField({ type: 'uint' }, text)).toEqual({ expected: 'a whole number from 0 to 4294967295' });
  });

  it.each<[FieldSpec, string, string]>([
    [{ type: 'boolean' }, 'true', '0 or 1'],
    [{ type: 'enum', values: ['a', 'b'] }, 'c', 'one of a, b'],
    [{ type: 'uint64' }, '9007199254740992', 'from 0 to 9007199254740991'],
    [{ type: 'bigint' }, '18446744073709551616', 'from 0 to 18446744073709551615'],
    [{ type: 'domid' }, '65536', 'from 0 to 32767'],
    [{ type: 'uint', min: 1, max: 4 }, '5', 'from 1 to 4'],
    [{ type: 'list', of: 'uint' }, '1 x', 'a list, each a whole number'],
  ])('%j does not take %j', (field, text, expected) => {
    expect(parseField(field, text)).toEqual({ expected: expect.stringContaining(expected) });
  });

  it('never throw, whatever a guest wrote', () => {
    const types = ['string', 'uint', 'int', 'uint64', 'bigint', 'boolean', 'domid'] as const;
    fc.assert(
      fc.property(fc.constantFrom(...types), fc.string({ unit: 'binary' }), (type, text) => {
        const parsed = parseField({ type }, text);
        if ('value' in parsed) expect(formatField({ type }, parsed.value)).toEqual({ text });
      }),
    );
  });
});
