import { channel } from 'node:diagnostics_channel';
import type { Logger } from 'pino';
import { expect, it, onTestFinished } from 'vitest';
import { logEvents } from './event-log.js';

/** Lines as they are given to the logger. */
function logged(): [level: string, fields: object, message: string][] {
  const lines: [string, object, string][] = [];
  const logger = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [
      level,
      (fields: object, message: string) => lines.push([level, fields, message]),
    ]),
  ) as unknown as Logger;
  const logging = logEvents(logger);
  onTestFinished(() => logging[Symbol.dispose]());
  return lines;
}

it('a ring that was overlooked is a line with its disk and indices, however often it is', () => {
  const lines = logged();
  const indices = { requestsProduced: 363, requestsConsumed: 100, requestEvent: 45, responsesProduced: 100 };
  const event = { ring: 'qdisk-5-51712/1', ...indices, inFlight: 0, awake: true };
  for (let i = 0; i < 100; i++) channel('xen-block:ring:overlooked').publish(event);
  expect(lines).toHaveLength(5);
  expect(lines[0]).toMatchObject([
    'warn',
    { device: 'qdisk-5-51712', ...event },
    expect.stringContaining('a ring had requests'),
  ]);
});

it('an exception within a data plane is an error line, however often it is', () => {
  const lines = logged();
  const event = { ring: undefined, error: new Error('oops'), count: 3 };
  for (let i = 0; i < 100; i++) channel('xen-block:plane:failed').publish(event);
  expect(lines).toHaveLength(5);
  expect(lines[0]).toMatchObject(['error', { count: 3 }, expect.stringMatching(/oops$/)]);
});
