import { memoryImage, rmwImage } from '@xenpv/blockdev';
import { expect, it } from 'vitest';
import { LentImage, lentImageOf } from './lent-image.js';

/** Ends when it is told to. */
class SlowBorrower {
  readonly told: string[] = [];
  letGo = () => {};

  end(why: string): Promise<void> {
    this.told.push(why);
    return new Promise((resolve) => {
      this.letGo = resolve;
    });
  }
}

it('closes when nobody reads it any more, and is not lent again', async () => {
  const inner = memoryImage({ size: 65536 });
  let isClosed = false;
  const close = inner.close.bind(inner);
  inner.close = async () => {
    isClosed = true;
    await close();
  };
  const image = new LentImage(inner);
  const [borrower, other] = [new SlowBorrower(), new SlowBorrower()];
  expect([image.lend(borrower), image.lend(other)]).toEqual([true, true]);
  image.takeBack(other);
  const closed = image.close();
  expect(image.lend(other)).toBe(false);
  expect([borrower.told, other.told]).toEqual([['closing'], []]);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isClosed).toBe(false);
  borrower.letGo();
  await closed;
  expect(isClosed).toBe(true);
});

it('tells of another size, and of none that is the same', async () => {
  const inner = memoryImage({ size: 65536 });
  let size = 65536;
  Object.defineProperty(inner, 'size', { get: () => size });
  let found = size;
  inner.refresh = async () => {
    size = found;
    return size;
  };
  const image = new LentImage(inner);
  const borrower = new SlowBorrower();
  image.lend(borrower);
  expect(await image.refresh()).toBe(65536);
  expect(borrower.told).toEqual([]);
  found = 131072;
  expect(await image.refresh()).toBe(131072);
  expect(borrower.told).toEqual(['resized']);
});

it('is found within what a disk makes of it', () => {
  const image = new LentImage(memoryImage({ size: 65536, sectorSize: 4096 }));
  expect(lentImageOf(rmwImage(image, 512))).toBe(image);
  expect(lentImageOf(memoryImage({ size: 65536 }))).toBe(undefined);
  expect(lentImageOf(undefined)).toBe(undefined);
});
