import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterAll, describe, expect, it, test } from 'vitest';
import { optionalAddon } from '../addon.js';
import { BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { testEngine } from '../testing/suite.js';
import { threadRing } from '../uring/thread-ring.js';
import { openFileImage } from './image.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
const devices: string[] = [];
const addon = { name: 'the native addon', met: () => optionalAddon() !== undefined };

function losetup(...args: string[]): string {
  return execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

function attach(path: string, ...options: string[]): string {
  const device = losetup('--find', '--show', ...options, path);
  devices.push(device);
  return device;
}

function detach(device: string): void {
  losetup('--detach', device);
  devices.splice(devices.indexOf(device), 1);
}

function loopDevicesWork(): boolean {
  const path = join(folder, 'probe');
  writeFileSync(path, new Uint8Array(4096));
  try {
    detach(attach(path));
    return true;
  } catch {
    return false;
  }
}

afterAll(() => {
  for (const device of [...devices]) detach(device);
  rmSync(folder, { recursive: true });
});

needs('losetup', { name: 'loop devices', met: loopDevicesWork }).describe('block devices', () => {
  const engines = (['threads', 'sync', 'io_uring'] as const).filter(
    (engine) => engine !== 'io_uring' || typeof threadRing() !== 'string',
  );
  let files = 0;

  for (const engine of engines) {
    for (const sectorSize of [512, 4096]) {
      testEngine(
        { describe, it },
        {
          name: `${engine} on a loop device of ${sectorSize}-byte sectors`,
          async open(content, { readOnly }) {
            const path = join(folder, `disk-${files++}`);
            writeFileSync(path, content);
            const device = attach(path, '--sector-size', String(sectorSize));
            const image = await openFileImage(device, { engine, readOnly });
            expect(image.sectorSize).toBe(sectorSize);
            expect(image.direct).toBe(engine === 'io_uring');
            return image;
          },
          async openLarge(size) {
            const path = join(folder, `large-${files++}`);
            writeFileSync(path, '');
            truncateSync(path, size);
            return openFileImage(attach(path, '--sector-size', String(sectorSize)), { engine });
          },
        },
      );
    }
  }

  test.each(engines)('%s sees a device grow', async (engine) => {
    const path = join(folder, `growing-${engine}`);
    writeFileSync(path, new Uint8Array(1 << 20));
    const device = attach(path);
    const image = await openFileImage(device, { engine });
    truncateSync(path, 2 << 20);
    losetup('--set-capacity', device);
    expect(image.size).toBe(1 << 20);
    expect(await image.refresh()).toBe(2 << 20);
    await image.close();
  });

  // Discarding takes an ioctl, which Node does not have.
  needs(addon, 'holes in temporary files').test.each(engines)('%s discards and zeroes a device', async (engine) => {
    const path = join(folder, `discarded-${engine}`);
    writeFileSync(path, new Uint8Array(1 << 20).fill(1));
    const image = await openFileImage(attach(path), { engine });
    expect(image.features.discard).toBe(true);
    const driver = new QueueDriver(image.createQueue({ depth: 2, memory: allocateMemory(1 << 20) }));
    await driver.run(BlockOp.flush, 0, 0);
    const before = statSync(path).blocks;
    expect(await driver.run(BlockOp.discard, 0, 1 << 19)).toBe(0);
    expect(statSync(path).blocks).toBeLessThan(before);
    expect(await driver.run(BlockOp.writeZeroes, 1 << 19, 1 << 19)).toBe(0);
    expect(await driver.run(BlockOp.secureDiscard, 0, 1 << 19)).toBeLessThan(0);
    expect(await driver.run(BlockOp.read, 0, 1 << 20)).toBe(1 << 20);
    expect(new Uint8Array(driver.queue.memory).every((byte) => byte === 0)).toBe(true);
    await image.close();
  });

  test('a read-only device is opened read-only or not at all', async () => {
    const path = join(folder, 'read-only');
    writeFileSync(path, new Uint8Array(4096));
    const device = attach(path, '--read-only');
    await expect(openFileImage(device)).rejects.toMatchObject({ code: 'EROFS' });
    await (await openFileImage(device, { readOnly: true })).close();
  });
});
