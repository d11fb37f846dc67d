import { channel } from 'node:diagnostics_channel';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LimitedLog } from '../log/limited-log.js';
import { RateLimit } from '../log/rate-limit.js';
import { LOGGED_CHANNELS, logEvents } from './event-log.js';

const TIMES = 10_000;
const INTERVAL_MS = 60_000;

let lines: Record<string, unknown>[];
let now: number;
let log: LimitedLog;
let events: Disposable;

beforeEach(() => {
  lines = [];
  now = 0;
  const logger = pino({ level: 'trace', base: null }, { write: (line) => lines.push(JSON.parse(line)) });
  log = new LimitedLog(logger, {
    limit: new RateLimit(5, INTERVAL_MS, () => now),
    guestLimit: new RateLimit(200, INTERVAL_MS, () => now),
  });
  events = logEvents(log);
});
afterEach(() => {
  events[Symbol.dispose]();
  log[Symbol.dispose]();
});

/** An event of any channel: it has all that one can have. */
const event = (n: number) => ({
  address: { type: 'qdisk', domid: 5, devid: 51712 },
  to: 1 + (n % 6),
  error: new Error(`cause ${n}`),
  reason: `reason ${n}`,
  count: n,
  path: '/images/a',
  ring: 'qdisk-5-51712/0',
  stop: { operation: 'write', errno: 'ENOSPC' },
  disk: { iops: n },
  guest: {},
  description: 'xenstored',
});

describe('the events in the log', () => {
  // A device that is gone is forgotten; only the toolstack takes it away.
  it.each(LOGGED_CHANNELS.filter((name) => name !== 'xenbus:device:removed'))(
    'of %s are few lines, however often it happens and whatever it says',
    (name) => {
      for (let n = 0; n < TIMES; n++) channel(name).publish(event(n));
      expect(lines).toHaveLength(5);
      expect(log.suppressed).toBe(TIMES - 5);
    },
  );

  it('of one guest hide none of another’s, however many disks it has and whatever happens to them', () => {
    const flood = (domid: number, devid: number, n: number) => {
      const address = { type: 'qdisk', domid, devid };
      for (const name of ['xenbus:device:error', 'xenbus:device:state', 'xen-block:device:resized']) {
        channel(name).publish({ ...event(n), address });
      }
    };
    for (let n = 0; n < TIMES; n++) flood(5, 51712 + 16 * (n % 500), n);
    expect(lines).toHaveLength(200);
    expect(log.linesOf(5)).toMatchObject({ written: 200, suppressed: 3 * TIMES - 200 });
    expect(log.suppressed).toBe(3 * TIMES - 200);
    flood(6, 51712, 1);
    expect(lines.slice(200)).toMatchObject([1, 2, 3].map(() => ({ device: 'qdisk-6-51712' })));
    expect(log.linesOf(6)).toMatchObject({ written: 3, suppressed: 0 });
    now = INTERVAL_MS;
    log.tellSuppressed();
    expect(lines.at(-1)).toMatchObject({ about: 'domain 5' });
  });

  it('are counted by guest until its last disk is gone', () => {
    const gone = (devid: number) =>
      channel('xenbus:device:removed').publish({ address: { type: 'qdisk', domid: 5, devid } });
    for (const devid of [51712, 51728]) {
      channel('xenbus:device:error').publish({ ...event(0), address: { type: 'qdisk', domid: 5, devid } });
    }
    gone(51712);
    expect(log.linesOf(5)).toMatchObject({ written: 3, suppressed: 0 });
    gone(51728);
    expect(log.linesOf(5)).toMatchObject({ written: 0, suppressed: 0 });
  });

  it('say in the next line how many were left out', () => {
    for (let n = 0; n < TIMES; n++) channel('xenbus:device:error').publish(event(n));
    now = INTERVAL_MS;
    channel('xenbus:device:error').publish(event(0));
    expect(lines.at(-1)).toMatchObject({ msg: 'cause 0', suppressed: TIMES - 5 });
  });

  it('say how many were left out when there is no next line', () => {
    for (let n = 0; n < TIMES; n++) channel('xen-block:journal:failed').publish(event(n));
    log.tellSuppressed();
    expect(lines).toHaveLength(5);
    now = INTERVAL_MS;
    log.tellSuppressed();
    log.tellSuppressed();
    expect(lines.slice(5)).toMatchObject([{ about: 'qdisk-5-51712', lines: TIMES - 5 }]);
  });

  it('say how many were left out when the device goes', () => {
    for (let n = 0; n < TIMES; n++) channel('xenbus:device:state').publish(event(n));
    channel('xenbus:device:removed').publish(event(0));
    expect(lines.slice(5)).toMatchObject([{ msg: 'device gone' }, { about: 'qdisk-5-51712', lines: TIMES - 5 }]);
  });

  it('have the disk and the indices of a ring that was overlooked', () => {
    const indices = { requestsProduced: 363, requestsConsumed: 100, requestEvent: 45, responsesProduced: 100 };
    const overlooked = { ring: 'qdisk-5-51712/1', ...indices, inFlight: 0, awake: true };
    channel('xen-block:ring:overlooked').publish(overlooked);
    expect(lines).toMatchObject([
      { device: 'qdisk-5-51712', ...overlooked, msg: expect.stringContaining('a ring had requests') },
    ]);
  });

  it('have the image that is not opened, since an earlier process has requests in flight', () => {
    channel('blockdev:image:unquiet').publish({ path: '/dev/vg/a', disk: 'qdisk-5-51712' });
    expect(lines).toMatchObject([
      { path: '/dev/vg/a', disk: 'qdisk-5-51712', msg: expect.stringContaining('requests of an earlier process') },
    ]);
  });

  it('have the requests that are left to storage that hangs when a guest is gone', () => {
    const address = { type: 'qdisk', domid: 5, devid: 51712 };
    channel('xen-block:device:abandoned').publish({ address, inFlight: 3 });
    expect(lines).toMatchObject([{ device: 'qdisk-5-51712', inFlight: 3, msg: expect.stringContaining('hangs') }]);
  });

  it('have the exception of a data plane', () => {
    channel('xen-block:plane:failed').publish({ ring: undefined, error: new Error('oops'), count: 3 });
    expect(lines).toMatchObject([{ count: 3, msg: expect.stringMatching(/oops$/) }]);
  });
});
