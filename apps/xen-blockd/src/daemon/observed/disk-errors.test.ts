import { channel } from 'node:diagnostics_channel';
import { XenbusState } from '@xenpv/xenbus';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DiskErrorsKept } from './disk-errors.js';

const DEVICE = 'qdisk-5-51712';
const address = { type: 'qdisk', domid: 5, devid: 51712 };
const S = XenbusState;

let errors: DiskErrorsKept;

beforeEach(() => {
  errors = new DiskErrorsKept();
  publish('xenbus:device:added');
});
afterEach(() => errors[Symbol.dispose]());

function publish(name: string, event: object = {}): void {
  channel(name).publish({ address, ...event });
}

const state = (to: XenbusState, from?: XenbusState) => publish('xenbus:device:state', { from, to });
const frontend = (is: XenbusState) => publish('xenbus:device:frontend', { state: is });

function fails(message = 'no such file', code = 'ENOENT', device = DEVICE): void {
  errors.logged('xenbus:device:error', device, { level: 'error', message, fields: { code } });
}

const refused = () => errors.of(DEVICE).refused;

describe('a disk is refused', () => {
  it('from the moment that it closes because of an error, not before', () => {
    frontend(S.initialising);
    fails();
    expect(refused()).toBeUndefined();
    state(S.closing);
    state(S.closed);
    expect(refused()).toEqual({ since: expect.stringMatching(/^\d{4}-.*Z$/), code: 'ENOENT', reason: 'no such file' });
  });

  it('though its frontend is closed or not there, where its image does not open', () => {
    frontend(S.closed);
    fails();
    state(S.closing);
    expect(refused()).toBeDefined();
  });

  it('for the last error of several', () => {
    fails('the first');
    fails('the second');
    state(S.closing);
    expect(refused()?.reason).toBe('the second');
  });

  it('because of its frontend, that is connected still', () => {
    publish('xen-block:device:prepared');
    state(S.initWait);
    frontend(S.connected);
    state(S.connected);
    fails('an impossible ring', 'EINVAL');
    state(S.closing);
    expect(refused()?.reason).toBe('an impossible ring');
    frontend(S.closed);
    state(S.closed);
    expect(refused()?.reason).toBe('an impossible ring');
  });

  it.each([S.initWait, S.connected])('until it goes on, in state %i', (to) => {
    fails();
    state(S.closing);
    state(to);
    expect(refused()).toBeUndefined();
    expect(errors.of(DEVICE).lastError?.message).toBe('no such file');
    // An error that is over refuses nothing.
    state(S.closing);
    expect(refused()).toBeUndefined();
  });

  it('until its image opens, whatever its state is left at', () => {
    fails();
    state(S.closing);
    publish('xen-block:device:prepared');
    expect(refused()).toBeUndefined();
  });
});

describe('what an earlier process has refused', () => {
  const left = (told: string) => errors.left(address, told);

  it('is refused for what its error node says', () => {
    frontend(S.closed);
    left('ENOENT /images/a\u001b[2J does not exist');
    expect(refused()).toEqual({
      since: expect.stringMatching(/^\d{4}-.*Z$/),
      code: 'ENOENT',
      reason: '/images/a\\u001b[2J does not exist',
    });
    expect(errors.of(DEVICE).lastError).toBeUndefined();
  });

  it('is so for what another program has written there', () => {
    left('19 xenbus_dev_probe on device');
    expect(refused()).toMatchObject({ code: '', reason: '19 xenbus_dev_probe on device' });
  });

  it('until it is opened', () => {
    left('ENOENT gone');
    publish('xen-block:device:prepared');
    expect(refused()).toBeUndefined();
  });

  it('not when this process has tried it meanwhile', () => {
    state(S.closed, S.closing);
    left('ENOENT gone');
    expect(refused()).toBeUndefined();
  });
});

it.each([S.closing, S.closed, S.unknown])('a guest that ends a disk after an error is not refused: %i', (ends) => {
  publish('xen-block:device:prepared');
  state(S.connected);
  fails('a key cannot be published');
  frontend(ends);
  state(S.closing);
  expect(refused()).toBeUndefined();
  expect(errors.of(DEVICE).lastError?.message).toBe('a key cannot be published');
});

it('a guest that ends a disk which was held is not refused', () => {
  publish('xen-block:device:prepared');
  state(S.connected, S.initWait);
  fails('a key cannot be published');
  publish('xen-block:device:closed');
  frontend(S.closing);
  state(S.closing, S.connected);
  expect(refused()).toBeUndefined();
});

it('the same error again is counted, another one takes its place', () => {
  for (let i = 0; i < 1000; i++) fails();
  expect(errors.of(DEVICE).lastError).toMatchObject({ kind: 'xenbus:device:error', count: 1000 });
  fails('no permission');
  expect(errors.of(DEVICE).lastError).toMatchObject({ message: 'no permission', count: 1 });
});

it('an error is bounded, and has nothing that a terminal obeys', () => {
  fails(`\u001b[2J\u202e${'x'.repeat(100_000)}`);
  state(S.closing);
  for (const text of [errors.of(DEVICE).lastError?.message, refused()?.reason]) {
    expect(text).toMatch(/^\\u001b\[2J\\u202ex+$/);
    expect(text?.length).toBeLessThan(600);
  }
});

it('a failed request is told by itself, and is no error of the disk', () => {
  const failure = { operation: 'write', errno: 'EIO', offset: 4096, length: 512 };
  publish('xen-block:storage:error', { ...failure, count: 3 });
  errors.logged('xen-block:storage:error', DEVICE, { level: 'error', message: 'storage error', fields: failure });
  errors.logged('xen-block:device:stopped', DEVICE, { level: 'error', message: 'stopped', fields: failure });
  expect(errors.of(DEVICE)).toEqual({ lastStorageError: { at: expect.any(String), ...failure } });
});

it('only errors count, of disks that are there', () => {
  errors.logged('xen-block:request:refused', DEVICE, { level: 'warn', message: 'request refused' });
  errors.logged('xenstore:connection:lost', undefined, { level: 'error', message: 'lost' });
  fails('late', 'EIO', 'qdisk-6-51712');
  expect(errors.of(DEVICE)).toEqual({});
  expect(errors.of('qdisk-6-51712')).toEqual({});
});

it('a disk that was removed takes its errors along', () => {
  fails();
  state(S.closing);
  publish('xenbus:device:removed');
  fails('late');
  expect(errors.of(DEVICE)).toEqual({});
  publish('xenbus:device:added');
  expect(errors.of(DEVICE)).toEqual({});
});
