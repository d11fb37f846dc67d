import { describe, expect, it } from 'vitest';
import { checkPermissions, formatPermission, parsePermission } from './permissions.js';

describe('permissions', () => {
  it.each(['n0', 'r1', 'w17', 'b65535'])('%s is one', (text) => {
    expect(formatPermission(parsePermission(text)!)).toBe(text);
  });

  it.each(['', 'n', 'x0', 'r-1', 'r01', 'r65536', 'r1 ', 'rr1', 'R1'])('%j is none', (text) => {
    expect(parsePermission(text)).toBeUndefined();
  });

  it('need an owner', () => {
    expect(() => checkPermissions([], '/a')).toThrow(/owner/);
    expect(() => checkPermissions([{ domid: -1, access: 'n' }], '/a')).toThrow(/"n-1"/);
    checkPermissions([{ domid: 0, access: 'n' }], '/a');
  });
});
