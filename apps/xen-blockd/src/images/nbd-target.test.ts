import { expect, it } from 'vitest';
import { nbdTarget } from './nbd-target.js';

it.each([
  ['nbd+unix:///a%20b?socket=/run/nbd', { address: '/run/nbd', exportName: 'a b', reconnectSeconds: undefined }],
  ['nbd+unix:///?socket=/s&reconnect-seconds=30', { address: '/s', exportName: '', reconnectSeconds: 30 }],
  ['nbd://storage1/web1', { address: { host: 'storage1', port: 10809 }, exportName: 'web1' }],
  ['nbd://10.0.0.7:10810/', { address: { host: '10.0.0.7', port: 10810 }, exportName: '' }],
  ['nbd://[fd00::7]:10810/a?reconnect-seconds=9', { address: { host: 'fd00::7', port: 10810 }, reconnectSeconds: 9 }],
  ['/images/nbd+unix:', undefined],
])('%s names a server and how long it is waited for', (target, expected) => {
  if (expected === undefined) expect(nbdTarget(target)).toBeUndefined();
  else expect(nbdTarget(target)).toMatchObject(expected);
});

it.each(['', '0', '-1', '1.5', '1e3', 'never', '1000000'])('reconnect-seconds=%s is refused by name', (text) => {
  const error = expect.objectContaining({ code: 'ERR_IMAGE', message: expect.stringContaining('reconnect-seconds=') });
  expect(() => nbdTarget(`nbd+unix:///disk?socket=/s&reconnect-seconds=${text}`)).toThrow(error);
});

it('certificates that cannot be read are named', () => {
  const error = 'the certificates of nbd-tls cannot be read: /no-such-folder/ca-cert.pem (ENOENT)';
  expect(() => nbdTarget('nbds://storage1/disk', '/no-such-folder')).toThrow(error);
  expect(nbdTarget('nbds://storage1/disk')).toMatchObject({ address: { host: 'storage1', tls: {} } });
});

it.each([
  'nbd+unix:///disk',
  'nbd:///disk',
  'nbd://',
  'nbd:disk',
  'nbd://host:port/disk',
  'nbd://host:99999/disk',
  'nbd://user@host/disk',
  'nbd://host/disk?socket=/s',
  'nbd://:password@host/disk',
  'nbd://host:0/disk',
  'nbd://host/%ff',
  'nbd://host/%',
  'nbd://host/a%00b',
  `nbd://host/${'n'.repeat(4097)}`,
  'nbd+unix:///%ff?socket=/s',
  'nbd+unix:///disk?socket=s',
  'nbd+unix:///disk?socket=%00s',
  'nbd+unix:///disk?socket=/a%00b',
])('%s names no server, and is refused', (target) => {
  expect(() => nbdTarget(target)).toThrow(
    'expected nbd+unix:///NAME?socket=PATH, nbd://HOST:PORT/NAME or nbds://HOST:PORT/NAME',
  );
});
