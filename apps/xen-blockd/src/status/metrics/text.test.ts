import { describe, expect, it } from 'vitest';
import { Scrape } from '../../testing/scrape.js';
import { labelText, MetricsText } from './text.js';

describe("Prometheus's text format", () => {
  it.each(['a"b', 'a\\b', 'a\\', '\\"', 'a{b}', 'a,b="c"', 'ä', ''])('keeps a label with the value %j', (value) => {
    const text = new MetricsText();
    text.declare({ a: { type: 'gauge', help: 'a' } });
    text.add('a', labelText(['x', 'y'], { x: value, y: 1 }), 2);
    expect(new Scrape(`${text}`).samples).toEqual([{ name: 'a', labels: { x: value, y: '1' }, value: 2 }]);
  });

  it.each(['a\nb 1', 'a\rb', 'a\u2028b', '\u001b[31m'])('has no line of what a label says: %j', (value) => {
    const text = new MetricsText();
    text.declare({ a: { type: 'gauge', help: 'a' } });
    text.add('a', labelText(['x'], { x: value }), 2);
    const { samples } = new Scrape(`${text}`);
    expect(samples).toHaveLength(1);
    expect(samples[0].labels.x).toMatch(/^[\x20-\x7e]*\\u[0-9a-f]{4}|^a\\[nr]b/);
  });

  it('has all of a metric in one place, and its type without a value too', () => {
    const text = new MetricsText();
    text.declare({ a: { type: 'counter', help: 'A' }, b: { type: 'gauge', help: 'B' } });
    text.add('b', '', undefined);
    text.add('a', labelText(['x'], { x: 1 }), 1);
    text.add('a', labelText(['x'], { x: undefined }), 2);
    expect(`${text}`).toBe('# HELP a A\n# TYPE a counter\na{x="1"} 1\na{x=""} 2\n# HELP b B\n# TYPE b gauge\n');
  });

  it('refuses a metric that nobody has declared', () => {
    expect(() => new MetricsText().add('unknown', '', 1)).toThrow('unknown is not in the catalogue');
  });

  it('has a histogram with its sum and the number of all', () => {
    const text = new MetricsText();
    text.declare({ h: { type: 'histogram', help: 'H' } });
    const buckets = [
      [0.5, 1],
      [Number.POSITIVE_INFINITY, 3],
    ] as const;
    text.addHistogram('h', labelText(['x'], { x: 1 }), { buckets, sum: 4.5 });
    const lines = ['h_bucket{x="1",le="0.5"} 1', 'h_bucket{x="1",le="+Inf"} 3', 'h_sum{x="1"} 4.5', 'h_count{x="1"} 3'];
    expect(`${text}`).toBe(`# HELP h H\n# TYPE h histogram\n${lines.join('\n')}\n`);
  });
});
