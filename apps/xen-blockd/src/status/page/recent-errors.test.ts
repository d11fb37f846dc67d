import { expect, it } from 'vitest';
import { RecentErrors } from './recent-errors.js';

const line = (message: string, level: 'info' | 'warn' | 'error' = 'error') => ({ level, message });
const errors = () => new RecentErrors((device) => (device === 'qdisk-1-51712' ? 'web1' : undefined));

it('lines of one kind about one disk are one entry, the last one first', () => {
  const recent = errors();
  for (let i = 0; i < 10_000; i++) recent.note('bad', 'qdisk-1-51712', line(`number ${i}`), i);
  recent.note('bad', undefined, line('other'), 20_000);
  recent.note('fine', undefined, line('well', 'info'), 20_000);
  expect(recent.list(30_000)).toEqual([
    { about: null, guest: null, kind: 'bad', level: 'error', message: 'other', count: 1, secondsAgo: 10 },
    {
      about: 'qdisk-1-51712',
      guest: 'web1',
      kind: 'bad',
      level: 'error',
      message: 'number 9999',
      count: 10_000,
      secondsAgo: 20,
    },
  ]);
  expect(recent.list(30_000, 'qdisk-1-51712')).toHaveLength(1);
});

it('they are bounded: in number, in length and in time, and without control characters', () => {
  const recent = errors();
  for (let i = 0; i < 600; i++) recent.note('bad', `qdisk-${i}-51712`, line('\u001b[31m'.repeat(1000)), 0);
  const listed = recent.list(0);
  expect(listed).toHaveLength(500);
  expect(listed[0]).toMatchObject({ about: 'qdisk-599-51712' });
  expect(listed[0].message.length).toBeLessThan(5000);
  expect(listed[0].message).not.toContain('\u001b');
  expect(recent.list(3_600_001)).toEqual([]);
});
