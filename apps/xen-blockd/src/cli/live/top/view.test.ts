import { describe, expect, it } from 'vitest';
import type { DiskReport } from '../../../status/disks/device-status.js';
import { PLAIN } from '../../../status/look.js';
import type { MeasuredDisk, Rates } from '../rates.js';
import { keysOf } from './keys.js';
import { TopView } from './view.js';

const counted = { operations: 0, bytes: 0, failed: 0, invalid: 0, errors: {}, merged: 0, totalTimeNs: 0 };
const statistics = { read: counted, write: counted, flush: counted, discard: counted, inFlight: 0, recovered: 0 };

function disk(domid: number, guest: string, rates?: Partial<Rates>): MeasuredDisk {
  const report = {
    device: `qdisk-${domid}-51712`,
    guest,
    domid,
    vdev: 'xvda',
    image: `/images/${guest}.img`,
    connected: true,
    since: '2026-01-01T00:00:00.000Z',
    limits: 'none',
    guestLimits: 'none',
    statistics,
  } as unknown as DiskReport;
  const none = { iops: 0, readIops: 0, writeIops: 0, readBandwidth: 0, writeBandwidth: 0, latency: undefined };
  return { disk: report, rates: rates && { ...none, ...rates } };
}

const DISKS = [
  disk(2, 'web2', { iops: 50, readBandwidth: 9e6, latency: 10 }),
  disk(10, 'db1', { iops: 900, readBandwidth: 1e6, latency: 200 }),
  disk(1, 'web1', { iops: 5, writeBandwidth: 2e6, latency: 5000 }),
];

function view(disks: readonly MeasuredDisk[] = DISKS) {
  const top = new TopView();
  top.look({ disks });
  const press = (input: string) => keysOf(input).map((key) => top.press(key));
  const draw = (columns = 120, rows = 10) => top.draw({ columns, rows, paint: PLAIN.paint });
  const listed = () => draw().flatMap((line) => /^qdisk-\S+ +(\S+)/.exec(line)?.[1] ?? []);
  /** The style of the chosen line is told as a mark. */
  const chosen = () =>
    top
      .draw({ columns: 120, rows: 10, paint: (style, text) => (style === 'chosen' ? `> ${text}` : text) })
      .find((line) => line.startsWith('> '))
      ?.split(/ +/)[2];
  return { top, press, draw, listed, chosen };
}

describe('the order', () => {
  it.each([
    ['', ['db1', 'web2', 'web1']],
    ['b', ['web2', 'web1', 'db1']],
    ['l', ['web1', 'db1', 'web2']],
    ['n', ['web1', 'web2', 'db1']],
    ['ni', ['db1', 'web2', 'web1']],
    ['nx', ['web1', 'web2', 'db1']],
  ])('after %j is %j', (keys, guests) => {
    const { press, listed } = view();
    press(keys);
    expect(listed()).toEqual(guests);
  });

  it('is marked, and has disks without rates last', () => {
    const { press, draw, listed } = view([disk(3, 'new'), ...DISKS]);
    press('l');
    expect(draw()[2]).toContain('mean*');
    expect(listed().at(-1)).toBe('new');
  });
});

describe('the filter', () => {
  it('is typed, mended, taken and left', () => {
    const { press, draw, listed } = view();
    press('/WEX');
    expect(draw()[1]).toBe('filter: WEX_');
    expect(listed()).toEqual([]);
    press('\u007fB');
    expect(listed()).toEqual(['web2', 'web1']);
    press('\r');
    expect(draw()[1]).toBe('filter: WEB');
    expect(draw()[0]).toBe('2 of 3 disks, 3 guests');
    press('\u001b');
    expect(listed().length).toBe(3);
  });

  it('takes letters that are keys elsewhere, and none that are no characters', () => {
    const { press, draw } = view();
    expect(press('/q\u001b[Ai\u0001')).not.toContain(false);
    expect(draw()[1]).toBe('filter: qi_');
    press('\u007f\u007f\u007f');
    expect(draw()[1]).toBe('filter: _');
  });
});

describe('the chosen disk', () => {
  it('is moved by arrows, no further than there are disks', () => {
    const { press, chosen } = view();
    expect(chosen()).toBe('db1');
    press('\u001b[B\u001b[B\u001b[B');
    expect(chosen()).toBe('web1');
    press('\u001b[A');
    expect(chosen()).toBe('web2');
    press('\u001b[H\u001b[A');
    expect(chosen()).toBe('db1');
    press('\u001b[F');
    expect(chosen()).toBe('web1');
  });

  it('stays chosen in another order, and gives its place to the next one when it goes', () => {
    const { top, press, chosen } = view();
    press('\u001b[B');
    expect(chosen()).toBe('web2');
    press('n');
    expect(chosen()).toBe('web2');
    top.look({ disks: DISKS.filter(({ disk: { guest } }) => guest !== 'web2') });
    expect(chosen()).toBe('db1');
    top.look({ disks: [] });
    expect(chosen()).toBeUndefined();
    press('\u001b[B\r');
    expect(chosen()).toBeUndefined();
  });

  it('is on the screen, however many there are', () => {
    const many = Array.from({ length: 50 }, (_, i) => disk(i + 1, `guest${i + 1}`));
    const { press, listed, chosen } = view(many);
    press('n\u001b[F');
    expect(listed().length).toBe(6);
    expect(chosen()).toBe('guest50');
    press('\u001b[5~');
    expect(chosen()).toBe('guest44');
  });

  it('is shown by Enter, until q', () => {
    const { top, press, draw } = view();
    press('\r');
    expect(draw()[1]).toBe('qdisk-10-51712');
    press('\u001b[B\u001b[B');
    expect(draw()[1]).toBe('guest');
    press('\u001b[A\u001b[A\u001b[A');
    expect(draw()[1]).toBe('qdisk-10-51712');
    top.look({ disks: [] });
    expect(draw()[1]).toBe('qdisk-10-51712 is not there any more');
    expect(press('q')).toEqual([true]);
    top.look({ disks: DISKS });
    expect(draw()[0]).toBe('3 disks, 3 guests');
  });
});

describe('the view', () => {
  it('is left by q, and by ctrl-C from everywhere', () => {
    expect(view().press('q')).toEqual([false]);
    expect(view().press('\u0003')).toEqual([false]);
    expect(view().press('/\u0003')).toEqual([true, false]);
    expect(view().press('\r\u0003')).toEqual([true, false]);
  });

  it('keeps what it knows when the daemon is away, and says so', () => {
    const { top, draw, listed } = view();
    top.look({ away: 'no daemon\nanswers' });
    expect(draw()[1]).toBe('no daemon\\nanswers');
    expect(listed().length).toBe(3);
    top.look({ disks: DISKS });
    expect(draw()[1]).toBe('');
  });

  it('is no larger than its space, whatever that is', () => {
    const { press, draw } = view();
    for (const keys of ['', '/a-filter-that-is-longer-than-all-of-it', '\u001b\r']) {
      press(keys);
      for (let columns = 1; columns < 130; columns += 3) {
        for (let rows = 1; rows < 20; rows++) {
          const lines = draw(columns, rows);
          expect(lines.length).toBeLessThanOrEqual(rows);
          for (const line of lines) expect([...line].length).toBeLessThanOrEqual(columns);
        }
      }
    }
  });

  it('has columns below one another, whatever characters a guest has in its name', () => {
    const { draw } = view([
      disk(1, '仮想', { iops: 5 }),
      disk(2, 'e\u0301te\u0301', { iops: 4 }),
      disk(3, 'web', { iops: 3 }),
    ]);
    const rows = draw().slice(3, 6);
    expect(rows.map((row) => row.replace(/^\S+ +(.*?) {2,}connected.*$/, '$1'))).toEqual([
      '仮想',
      'e\u0301te\u0301',
      'web',
    ]);
    const [wide, marked, plain] = rows.map((row) => row.indexOf('connected'));
    // Two characters of two columns each, and two marks of none.
    expect([wide, marked]).toEqual([plain - 2, plain + 2]);
  });

  it('shows the name, IOPS and bandwidth in 30 columns', () => {
    const [, , header, first] = view().draw(30, 10);
    expect(header).toMatch(/^device +IOPS\* +MB\/s$/);
    expect(first).toMatch(/^qdisk-10-51712 +900 +1\.0$/);
  });
});
