import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, working } from '@xenpv/test-support';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { optionalAddon } from '../addon.js';
import { BlockOp } from '../block-image.js';
import { allocateMemory, PAGE_BYTES } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { threadRing } from '../uring/thread-ring.js';
import { openFileImage } from './image.js';
import type { FileImageOptions } from './options.js';

const BYTES = 1 << 19;
const SECTOR = 512;
const SECTORS = PAGE_BYTES / SECTOR;

const folder = mkdtempSync(join(tmpdir(), 'claimed-device-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const losetup = (...args: string[]) => execFileSync('losetup', args, { encoding: 'utf8', stdio: 'pipe' }).trim();
function attach(): string {
  const path = join(folder, 'image');
  writeFileSync(path, new Uint8Array(BYTES).fill(1));
  return losetup('--find', '--show', path);
}

const loops = working('loop devices', () => losetup('--detach', attach()));
const addon = working('the addon of blockdev', () => expect(optionalAddon()).toBeDefined());

const engines: FileImageOptions[] = [
  { engine: 'threads' },
  { engine: 'sync' },
  ...(typeof threadRing() === 'string' ? [] : [{ engine: 'io_uring', direct: false } as const]),
  ...(typeof threadRing() === 'string' ? [] : [{ engine: 'io_uring' } as const]),
];
const ways = engines.flatMap((options) =>
  ['our own lock', 'somebody else'].map((claim) => {
    const cached = options.direct === false ? ' through the page cache' : '';
    return { name: `${options.engine}${cached}, claimed by ${claim}`, options, claim };
  }),
);

// A device that somebody has open with O_EXCL: the kernel drops no page of it that is not written out yet.
needs(loops, addon).describe('a claimed block device', () => {
  let device: string;
  let strangers: number[];
  beforeEach(() => {
    device = attach();
    strangers = [];
  });
  afterEach(() => {
    for (const fd of strangers) closeSync(fd);
    losetup('--detach', device);
  });

  async function open({ options, claim }: (typeof ways)[number]) {
    if (claim === 'somebody else') strangers.push(openSync(device, constants.O_RDONLY | constants.O_EXCL));
    const lockFor = claim === 'our own lock' ? { owner: 'vm', name: 'disk of vm' } : undefined;
    const image = await openFileImage(device, { ...options, lockFor });
    const driver = new QueueDriver(image.createQueue({ depth: 32, memory: allocateMemory(BYTES) }));
    const memory = new Uint8Array(driver.queue.memory);
    const read = async () => {
      expect(await driver.run(BlockOp.read, 0, BYTES)).toBe(BYTES);
      return memory;
    };
    return { image, driver, memory, read };
  }

  for (const [name, op] of [
    ['discards', BlockOp.discard],
    ['zeroes', BlockOp.writeZeroes],
  ] as const) {
    it.each(ways)(`${name} what was just written, and nothing beside it: $name`, async (way) => {
      const { image, driver, memory, read } = await open(way);
      const ranges = [
        [0, PAGE_BYTES],
        [2 * PAGE_BYTES, SECTOR],
        [5 * PAGE_BYTES - 2 * SECTOR, 4 * SECTOR],
        [8 * PAGE_BYTES - SECTOR, 64 * PAGE_BYTES + 2 * SECTOR],
      ];
      for (const [offset, length] of ranges) {
        memory.fill(2);
        expect(await driver.run(BlockOp.write, 0, BYTES)).toBe(BYTES);
        expect(await driver.run(op, offset, length)).toBe(0);
        const content = await read();
        const inside = new Set(content.subarray(offset, offset + length));
        // A discard is a hint: the kernel leaves parts that are smaller than the device's granules.
        if (op === BlockOp.writeZeroes || length === PAGE_BYTES) expect([...inside]).toEqual([0]);
        else for (const byte of inside) expect([0, 2]).toContain(byte);
        content.fill(2, offset, offset + length);
        expect(content.every((byte) => byte === 2)).toBe(true);
      }
      await image.close();
    });

    it.each(ways)(`${name} sectors whose neighbours are being written: $name`, async (way) => {
      const { image, driver, memory, read } = await open(way);
      memory.fill(3);
      // All but the last sector of each page is written again and again, the last one is cleared meanwhile.
      const pages = Array.from({ length: 16 }, (_, page) => page * PAGE_BYTES);
      const clearedAt = (page: number) => page + PAGE_BYTES - SECTOR;
      let clearing = true;
      const writing = pages.map(async (page) => {
        while (clearing) expect(await driver.run(BlockOp.write, page, PAGE_BYTES - SECTOR)).toBe(PAGE_BYTES - SECTOR);
      });
      const results = new Set<number>();
      for (let round = 0; round < 8; round++) {
        for (const result of await Promise.all(pages.map((page) => driver.run(op, clearedAt(page), SECTOR)))) {
          results.add(result);
        }
      }
      clearing = false;
      await Promise.all(writing);
      expect([...results]).toEqual([0]);
      const content = await read();
      for (const page of pages) {
        const found = Array.from({ length: SECTORS }, (_, sector) => content[page + sector * SECTOR]);
        expect(found.slice(0, -1)).toEqual(new Array(SECTORS - 1).fill(3));
        // A discard is a hint: what was there may stay.
        if (op === BlockOp.writeZeroes) expect(found.at(-1)).toBe(0);
        else expect([0, 1]).toContain(found.at(-1));
      }
      await image.close();
    });
  }
});
