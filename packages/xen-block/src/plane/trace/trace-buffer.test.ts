import { expect, it } from 'vitest';
import { RECORD_WORDS, RecordWord, TraceBuffer } from './trace-buffer.js';

function write(buffer: TraceBuffer, from: number, count: number): void {
  const record = new Float64Array(RECORD_WORDS);
  for (let i = from; i < from + count; i++) {
    record[RecordWord.sector] = i;
    buffer.put(record);
  }
}

function sectorsOf(target: Float64Array, count: number): number[] {
  return Array.from({ length: count }, (_, i) => target[i * RECORD_WORDS + RecordWord.sector]);
}

it('a reader in time gets every record once, in order', () => {
  const buffer = TraceBuffer.create(16);
  const target = new Float64Array(16 * RECORD_WORDS);
  let next = buffer.head;
  const seen: number[] = [];
  for (let round = 0; round < 20; round++) {
    write(buffer, 5 * round, 5);
    const read = buffer.read(next, 3, target);
    const rest = buffer.read(read.next, 16, new Float64Array(16 * RECORD_WORDS));
    expect([read.count, rest.count, read.lost + rest.lost]).toEqual([3, 2, 0]);
    seen.push(...sectorsOf(target, 3));
    next = rest.next;
  }
  expect(seen.slice(0, 6)).toEqual([0, 1, 2, 5, 6, 7]);
});

it('a late reader gets the newest seven eighths, and is told how many it has lost', () => {
  const buffer = TraceBuffer.create(16);
  const target = new Float64Array(16 * RECORD_WORDS);
  write(buffer, 0, 100);
  const read = buffer.read(0, 16, target);
  expect(read).toEqual({ count: 14, next: 100, lost: 86 });
  expect(sectorsOf(target, 14)).toEqual(Array.from({ length: 14 }, (_, i) => 86 + i));
  expect(buffer.read(read.next, 16, target)).toEqual({ count: 0, next: 100, lost: 0 });
});

it('two ends on the same memory go on over the end of 32 bits', () => {
  const writer = TraceBuffer.create(16);
  const reader = new TraceBuffer(writer.memory);
  new Int32Array(writer.memory)[0] = -3;
  const from = reader.head;
  expect(from).toBe(2 ** 32 - 3);
  write(writer, 0, 6);
  const target = new Float64Array(16 * RECORD_WORDS);
  expect(reader.read(from, 16, target)).toEqual({ count: 6, next: 3, lost: 0 });
  expect(sectorsOf(target, 6)).toEqual([0, 1, 2, 3, 4, 5]);
});
