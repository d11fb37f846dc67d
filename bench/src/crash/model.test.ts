import { expect, it } from 'vitest';
import { Random } from '../program/random.js';
import { DiskModel, SECTOR } from './model.js';

const WORDS = SECTOR / 4;

/** A disk whose first sector was written once; that version's words, and those of a write that is in flight. */
function written(): { model: DiskModel; old: Int32Array; next: Int32Array } {
  const model = DiskModel.create(1, 1);
  const range = { sectors: 1, unit: 1, end: 1 };
  model.take(new Random(1), range, 'write');
  const [old, next] = [new Int32Array(WORDS), new Int32Array(WORDS)];
  model.write(0, old);
  model.written(0, 1);
  model.give(0, 1, 'write');
  return { model, old, next };
}

function begin(model: DiskModel, next: Int32Array): void {
  model.take(new Random(1), { sectors: 1, unit: 1, end: 1 }, 'write');
  model.write(0, next);
}

const mixed = (one: Int32Array, other: Int32Array) => one.map((word, at) => (at < 50 ? word : other[at]));

it('what was acknowledged is there, whole', () => {
  const { model, old } = written();
  expect(model.check(model.expect(0, 1), old)).toEqual([]);
  expect(model.check(model.expect(0, 1), new Int32Array(WORDS))).toHaveLength(1);
  expect(model.check(model.expect(0, 1), mixed(old, new Int32Array(WORDS)))).toHaveLength(1);
});

it('a write in flight is there, or is not, or in part', () => {
  const { model, old, next } = written();
  begin(model, next);
  for (const found of [old, mixed(old, next), mixed(next, old), next]) {
    expect(model.check(model.expect(0, 1), found)).toEqual([]);
  }
  expect(model.check(model.expect(0, 1), mixed(old, new Int32Array(WORDS)))).toHaveLength(1);
});

it('one that began after the read did may be there in part too', () => {
  const { model, old, next } = written();
  const expected = model.expect(0, 1);
  begin(model, next);
  expect(model.check(expected, mixed(next, old))).toEqual([]);
});

it('after the answer, and in the next life, nothing is there in part', () => {
  const { model, old, next } = written();
  begin(model, next);
  const later = DiskModel.of(1, model.memory);
  expect(later.check(later.expect(0, 1), mixed(next, old))).toHaveLength(1);
  model.written(0, 1);
  model.give(0, 1, 'write');
  expect(model.check(model.expect(0, 1), mixed(next, old))).toHaveLength(1);
  expect(model.check(model.expect(0, 1), old)).toHaveLength(1);
});
