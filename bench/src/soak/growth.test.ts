import { expect, it } from 'vitest';
import { growthOf } from './growth.js';
import type { Sample } from './sample.js';

const COUNTS = {
  descriptors: 40,
  threads: 12,
  mappings: 300,
  helpers: 1,
  helperDescriptors: 14,
  watches: 9,
  nodes: 120,
  grants: 90,
  mapped: 16,
  ports: 20,
  eventHandles: 3,
  files: 30,
};

/** An hour, a sample a minute. */
function hour(change: (minute: number) => Partial<Omit<Sample, 'counts'>> & { counts?: Partial<Sample['counts']> }) {
  return Array.from({ length: 60 }, (_, minute) => {
    const { counts, ...rest } = change(minute);
    const sample = { seconds: 60 * minute, happenings: 100 * minute, memoryMiB: 60, helperMemoryMiB: 20, ...rest };
    return { ...sample, counts: { ...COUNTS, ...counts } };
  });
}

it('an hour in which nothing stays is flat, though each sample differs a little', () => {
  const noise = (minute: number) => (minute * 7) % 5;
  const samples = hour((minute) => ({ memoryMiB: 60 + noise(minute), counts: { mapped: 16 + noise(minute) } }));
  expect(growthOf(samples)).toEqual([]);
});

it('what a start takes and keeps is no growth', () => {
  expect(growthOf(hour((minute) => (minute < 5 ? { memoryMiB: 30, counts: { descriptors: 20 } } : {})))).toEqual([]);
});

const EXACT = (Object.keys(COUNTS) as (keyof typeof COUNTS)[]).filter((name) => name !== 'mappings');

it.each(EXACT)('one more of %s each ten minutes is noticed', (name) => {
  const samples = hour((minute) => ({ counts: { [name]: COUNTS[name] + Math.floor(minute / 10) } }));
  expect(growthOf(samples)).toEqual([expect.stringContaining(`${name}: at most`)]);
});

it.each(['memoryMiB', 'helperMemoryMiB'] as const)('half a mebibyte of %s a minute is noticed', (name) => {
  expect(growthOf(hour((minute) => ({ [name]: 60 + minute / 2 })))).toEqual([expect.stringContaining(`${name}: `)]);
});

it('two mappings more each minute are noticed, a few are not', () => {
  expect(growthOf(hour((minute) => ({ counts: { mappings: 300 + 2 * minute } })))).toHaveLength(1);
  expect(growthOf(hour((minute) => ({ counts: { mappings: 300 + Math.floor(minute / 5) } })))).toEqual([]);
});

it('a few samples show nothing', () => {
  expect(growthOf(hour(() => ({})).slice(0, 2))).toEqual([]);
});
