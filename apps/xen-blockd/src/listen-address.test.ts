import { describe, expect, it } from 'vitest';
import { isLoopbackHost, parseListenAddress, parseLoopbackAddress } from './listen-address.js';

describe('an address to listen on', () => {
  it.each([
    ['/run/metrics', { path: '/run/metrics' }],
    ['localhost:9105', { host: 'localhost', port: 9105 }],
    [':9105', { host: 'localhost', port: 9105 }],
    ['*:9105', { host: undefined, port: 9105 }],
    ['127.0.0.1:1', { host: '127.0.0.1', port: 1 }],
    ['storage-1.example.org:65535', { host: 'storage-1.example.org', port: 65535 }],
    ['[::1]:9000', { host: '::1', port: 9000 }],
    ['[::]:9000', { host: '::', port: 9000 }],
    ['[fe80::1%eth0]:9000', { host: 'fe80::1%eth0', port: 9000 }],
  ])('is understood: %s', (text, address) => {
    expect(parseListenAddress(text)).toEqual(address);
  });

  it.each([
    '',
    '/',
    '/run/',
    `/${'x'.repeat(107)}`,
    '/a\0b',
    'relative/path',
    'localhost',
    '9105',
    'localhost:',
    'localhost:0',
    'localhost:65536',
    'localhost:99999',
    'localhost:000009105',
    'localhost:-1',
    'localhost:9105 ',
    'local host:9105',
    '::1:9000',
    '[::1]',
    '[::1]9000',
    '[]:9000',
    '[1]:9000',
    'http://localhost:9000',
    '**:9000',
  ])('is refused: %j', (text) => {
    expect(parseListenAddress(text)).toBeUndefined();
  });
});

describe('an address that only this machine reaches', () => {
  it.each(['/run/page', 'localhost:9106', ':9106', '127.0.0.1:9106', '127.3.2.1:9106', '[::1]:9106'])(
    'is %s',
    (text) => {
      expect(parseLoopbackAddress(text)).toEqual(parseListenAddress(text));
      expect(parseLoopbackAddress(text)).toBeDefined();
    },
  );

  it.each([
    '*:9106',
    '0.0.0.0:9106',
    '[::]:9106',
    '10.0.0.1:9106',
    'dom0.example.org:9106',
    'localhost.example.org:9106',
    '127.0.0.1.example.org:9106',
    '127.0.0.256:9106',
    '[::ffff:10.0.0.1]:9106',
    'relative/path',
    '',
  ])('is not %s', (text) => expect(parseLoopbackAddress(text)).toBeUndefined());

  it('is told by the host alone, whatever its case', () => {
    expect(['LOCALHOST', '127.0.0.1', '::1'].every(isLoopbackHost)).toBe(true);
    expect(['', 'evil', 'localhost.', 'xlocalhost', '127.0.0.1x'].some(isLoopbackHost)).toBe(false);
  });
});
