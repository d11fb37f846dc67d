import { describe, expect, it } from 'vitest';
import { cutTo, formatDuration, formatTable } from './format.js';
import { formatPercentile, percentile } from './latency.js';
import { lookOf, PLAIN } from './look.js';

const XTERM = { TERM: 'xterm' };
const terminal = { isTTY: true, columns: 80 };

describe('the look', () => {
  it('has colours on a terminal', () => {
    expect(lookOf(terminal, XTERM).paint('bad', 'held')).toBe('\u001b[31mheld\u001b[39m');
    expect(lookOf(terminal, XTERM).columns).toBe(80);
  });

  it.each([
    ['a file', { columns: 80 }, XTERM],
    ['NO_COLOR', terminal, { ...XTERM, NO_COLOR: '1' }],
    ['a dumb terminal', terminal, { TERM: 'dumb' }],
    ['a terminal that nobody knows', terminal, {}],
  ])('has none with %s', (_, stream, env) => {
    expect(lookOf(stream, env).paint('bad', 'held')).toBe('held');
  });

  it('is as ever with an empty NO_COLOR, and where a terminal has no width', () => {
    expect(lookOf(terminal, { ...XTERM, NO_COLOR: '' }).paint('good', 'x')).not.toBe('x');
    expect(lookOf({ isTTY: true, columns: 0 }, XTERM).columns).toBeUndefined();
    expect(lookOf({ columns: 80 }, XTERM)).toBe(PLAIN);
  });
});

describe('a table', () => {
  const rows = [
    ['device', 'why'],
    ['qdisk-5-51712', 'the image is away'],
    ['q', '-'],
  ];

  it('is cut to the terminal, and nowhere else', () => {
    const look = { columns: 24, paint: PLAIN.paint };
    const lines = formatTable(rows, { look, left: [1] }).split('\n');
    expect(lines).toEqual(['  device         why', '  qdisk-5-51712  the im…', '  q              -']);
    for (let columns = 1; columns < 40; columns++) {
      for (const line of formatTable(rows, { look: { ...look, columns } }).split('\n')) {
        expect([...line].length).toBeLessThanOrEqual(columns);
      }
    }
    expect(formatTable(rows, { left: [1] })).toContain('the image is away');
  });

  it('has columns below one another, whatever characters are in them', () => {
    const names = [
      ['device', 'guest', 'vdev'],
      ['q-1', '仮想', 'xvda'],
      ['q-2', 'e\u0301te\u0301', 'xvdb'],
      ['仮', '💾', 'xvdc'],
    ];
    expect(formatTable(names).split('\n')).toEqual([
      '  device  guest  vdev',
      '  q-1      仮想  xvda',
      '  q-2       e\u0301te\u0301  xvdb',
      '  仮         💾  xvdc',
    ]);
    const cut = formatTable(names, { look: { ...PLAIN, columns: 14 } }).split('\n');
    expect(cut).toEqual(['  device  gue…', '  q-1      仮…', '  q-2       e\u0301…', '  仮         …']);
  });

  it('is as wide with colours as without', () => {
    const style = (row: number, column: number) => (row > 0 && column === 1 ? ('bad' as const) : undefined);
    const coloured = formatTable(rows, { look: lookOf({ isTTY: true, columns: 24 }, XTERM), style, left: [1] });
    expect(coloured).toContain('\u001b[31mthe im…\u001b[39m');
  });
});

it.each([
  ['disk', 4, 'disk'],
  ['disk', 3, 'di…'],
  ['disk', 1, '…'],
  ['disk', 0, ''],
  ['💾💾💾', 2, '…'],
  ['💾💾💾', 5, '💾💾…'],
  ['仮想機械', 8, '仮想機械'],
  ['仮想機械', 6, '仮想…'],
  ['한글', 3, '한…'],
  ['e\u0301te\u0301', 3, 'e\u0301te\u0301'],
  ['e\u0301te\u0301s', 3, 'e\u0301t…'],
])('%s in %i columns is %j', (text, columns, cut) => {
  expect(cutTo(columns, text)).toBe(cut);
});

it.each([
  [-5, '0 s'],
  [59_999, '59 s'],
  [61_000, '1 min 1 s'],
  [3_600_000, '1 h 0 min'],
  [93_600_000, '1 d 2 h'],
])('%i ms are %s', (milliseconds, text) => {
  expect(formatDuration(milliseconds)).toBe(text);
});

describe('a percentile', () => {
  const buckets = (counts: Record<number, number>) => Array.from({ length: 25 }, (_, bucket) => counts[bucket] ?? 0);

  it.each([
    [{}, 0.5, '-'],
    [{ 0: 1 }, 0.5, '<1 us'],
    [{ 7: 99, 14: 1 }, 0.5, '<128 us'],
    [{ 7: 99, 14: 1 }, 0.99, '<128 us'],
    [{ 7: 98, 14: 2 }, 0.99, '<16.4 ms'],
    [{ 7: 0.5, 9: 0.5 }, 0.99, '<512 us'],
    [{ 24: 3 }, 0.5, '>8.4 s'],
  ])('of %j at %d is %s', (counts, share, text) => {
    expect(formatPercentile(percentile(buckets(counts), share))).toBe(text);
  });
});
