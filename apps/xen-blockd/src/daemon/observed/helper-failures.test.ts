import { channel } from 'node:diagnostics_channel';
import { expect, it } from 'vitest';
import { HelperFailures } from './helper-failures.js';

const DEVICE = 'qdisk-5-51712';

it('counts failures of which only some are told, row by row', () => {
  using failures = new HelperFailures();
  const told = (inRow: number, kind = 'qemu-storage-daemon ended') =>
    failures.logged(kind, DEVICE, { level: 'error', message: kind, fields: { failures: inRow } });
  expect(failures.of(DEVICE)).toBe(0);
  told(1);
  expect(failures.of(DEVICE)).toBe(1);
  told(2, 'qemu-storage-daemon does not start');
  told(4);
  expect(failures.of(DEVICE)).toBe(4);
  // It ran well meanwhile.
  told(1);
  told(1);
  expect(failures.of(DEVICE)).toBe(6);
  told(8, 'qemu-storage-daemon runs again');
  expect(failures.of(DEVICE)).toBe(6);
  expect(failures.of('qdisk-6-51712')).toBe(0);
});

it('forgets a disk that is gone', () => {
  using failures = new HelperFailures();
  const kind = 'qemu-storage-daemon ended';
  failures.logged(kind, DEVICE, { level: 'error', message: kind, fields: { failures: 1 } });
  channel('xenbus:device:removed').publish({ address: { type: 'qdisk', domid: 5, devid: 51712 } });
  expect(failures.of(DEVICE)).toBe(0);
});
