import { expect, it } from 'vitest';
import { nbdTarget } from './nbd-target.js';

it.each([
  ['nbd+unix:///a%20b?socket=/run/nbd', { socket: '/run/nbd', exportName: 'a b', reconnectSeconds: undefined }],
  ['nbd+unix:///?socket=/s&reconnect-seconds=30', { socket: '/s', exportName: '', reconnectSeconds: 30 }],
  ['/images/nbd+unix:', undefined],
])('%s names a server and how long it is waited for', (target, expected) => {
  expect(nbdTarget(target)).toEqual(expected);
});

it.each(['', '0', '-1', '1.5', '1e3', 'never', '1000000'])('reconnect-seconds=%s is refused by name', (text) => {
  const error = expect.objectContaining({ code: 'ERR_IMAGE', message: expect.stringContaining('reconnect-seconds=') });
  expect(() => nbdTarget(`nbd+unix:///disk?socket=/s&reconnect-seconds=${text}`)).toThrow(error);
});

it('a server without a socket is refused', () => {
  expect(() => nbdTarget('nbd+unix:///disk')).toThrow('expected nbd+unix:///NAME?socket=PATH');
});
