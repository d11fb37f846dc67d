import { describe, expect, it } from 'vitest';
import { formatLine } from './logger.js';
import { RateLimit } from './rate-limit.js';

describe('a log line', () => {
  const line = JSON.stringify({ level: 40, device: 'qdisk-3-51712', reason: 'no such file', count: 2, msg: 'refused' });

  it('has the priority that the journal reads', () => {
    expect(formatLine(line, 'journal')).toBe('<4>refused device=qdisk-3-51712 reason="no such file" count=2\n');
  });

  it('is text for a person', () => {
    expect(formatLine(line, 'text')).toBe('warn  refused device=qdisk-3-51712 reason="no such file" count=2\n');
  });
});

describe('the rate limit', () => {
  it('lets a few through and then says how many it kept back', () => {
    let now = 0;
    const limit = new RateLimit(2, 1000, () => now);
    expect([1, 2, 3, 4, 5].map(() => limit.admit('a')?.suppressed)).toEqual([0, 0, undefined, undefined, undefined]);
    expect(limit.admit('b')).toEqual({ suppressed: 0 });
    now = 1000;
    expect(limit.admit('a')).toEqual({ suppressed: 3 });
    limit.forget('a');
    expect(limit.admit('a')).toEqual({ suppressed: 0 });
  });
});
