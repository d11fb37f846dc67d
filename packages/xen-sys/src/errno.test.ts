import { constants } from 'node:os';
import { expect, it } from 'vitest';
import { Errno } from './errno.js';
import { errnoError, errnoName, XenSysError } from './errors.js';

it('Errno has the numbers of Linux', () => {
  const system = Object.fromEntries(Object.keys(Errno).map((name) => [name, -Reflect.get(constants.errno, name)]));
  expect(Errno).toEqual(system);
  expect([errnoName(Errno.ENOENT), errnoName(Errno.ETIME), errnoName(-4000)]).toEqual(['ENOENT', 'ETIME', 'E4000']);
});

it('an error has the errno of its code, or the one that it is given', () => {
  expect(new XenSysError('EINVAL', 'gnttab.map', '').errno).toBe(22);
  expect(new XenSysError('ERR_CLOSED', 'gnttab.map', '').errno).toBeUndefined();
  expect(new XenSysError('ERR_NO_DEVICE', 'open', '', { errno: 2 }).errno).toBe(2);
  expect(errnoError(-28, 'open', '/x')).toMatchObject({ code: 'ENOSPC', errno: 28, op: 'open', path: '/x' });
});
