import { expect, it } from 'vitest';
import { Random } from '../../program/random.js';
import { drawRun, putRun } from './contents.js';
import { DiskModel } from './disk-model.js';

const found = new Uint32Array(8);

/** A disk of zeroes of whose first sector nobody knows whether it was written; and what was written. */
function unsure(): { model: DiskModel; written: Buffer; zeroes: Buffer } {
  const model = new DiskModel(64);
  const content = drawRun(new Random(1));
  const written = Buffer.alloc(512);
  putRun(written, 0, content, 1);
  model.newChange();
  model.maybe(0, content);
  return { model, written, zeroes: Buffer.alloc(512) };
}

it('a sector that may have been written is what it was or what was written, and after a read the one that was read', () => {
  const { model, written, zeroes } = unsure();
  expect([model.mayHold(written, 0, 0), model.mayHold(zeroes, 0, 0)]).toEqual([true, true]);
  expect(model.holds(written, 0, 0, 1, found, 0)).toBe(true);
  expect([model.mayHold(written, 0, 0), model.mayHold(zeroes, 0, 0)]).toEqual([true, false]);
});

it('what a read may mean teaches nothing', () => {
  const { model, written, zeroes } = unsure();
  model.mayHold(zeroes, 0, 0);
  expect(model.holds(written, 0, 0, 1, found, 0)).toBe(true);
});

it('after a power cut a sector is known if a flush has covered it', () => {
  const { model, written, zeroes } = unsure();
  const change = model.lastChange;
  model.newChange();
  model.set(1, drawRun(new Random(2)));
  model.flushed(change);
  model.powerWasCut();
  expect([model.mayHold(Buffer.alloc(512, 7), 0, 0), model.mayHold(Buffer.alloc(512, 7), 0, 1)]).toEqual([false, true]);
  expect([model.mayHold(written, 0, 0), model.mayHold(zeroes, 0, 0)]).toEqual([true, true]);
});
