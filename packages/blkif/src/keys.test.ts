import { describe, expect, it } from 'vitest';
import {
  backendKeys,
  deviceKeys,
  frontendKeys,
  frontendToolstackKeys,
  queueDirectory,
  queueKeys,
  ringRefKeys,
  toolstackKeys,
  transportKeys,
} from './index.js';

describe('names of queues and references', () => {
  it.each([
    [undefined, ['ring-ref']],
    [0, ['ring-ref0']],
    [1, ['ring-ref0', 'ring-ref1']],
    [2, ['ring-ref0', 'ring-ref1', 'ring-ref2', 'ring-ref3']],
  ])('order %s', (order, keys) => {
    expect(ringRefKeys(order)).toEqual(keys);
  });

  it('has a directory for each of several queues only', () => {
    expect(queueDirectory(0, 1)).toBe('');
    expect([0, 1].map((queue) => queueDirectory(queue, 2))).toEqual(['queue-0', 'queue-1']);
  });
});

describe('schemas', () => {
  it('publishes transport keys before device keys, none twice', () => {
    const transport = Object.keys(transportKeys);
    const device = Object.keys(deviceKeys);
    expect(transport.filter((key) => device.includes(key))).toEqual([]);
    expect(Object.keys(backendKeys)).toEqual([...transport, ...device]);
    expect(Object.keys(toolstackKeys).filter((key) => key in backendKeys)).toEqual([]);
  });

  it('has the defaults of io/blkif.h', () => {
    const defaults = (schema: object) =>
      Object.fromEntries(
        Object.entries(schema as Record<string, { default?: unknown }>).flatMap(([key, field]) =>
          field.default === undefined ? [] : [[key, field.default]],
        ),
      );
    expect(defaults(backendKeys)).toEqual({
      'multi-queue-max-queues': 1,
      'max-ring-page-order': 0,
      'max-ring-pages': 1,
      'feature-barrier': false,
      'feature-flush-cache': false,
      'feature-discard': false,
      'discard-alignment': 0,
      'discard-secure': false,
      'feature-persistent': false,
      info: 0,
      'sector-size': 512,
    });
    expect(defaults(frontendKeys)).toEqual({ 'multi-queue-num-queues': 1, 'feature-persistent': false });
    expect(defaults(frontendToolstackKeys)).toEqual({ trusted: true });
    expect(queueKeys['ring-ref'].optional).toBe(true);
  });
});
