import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { afterAll, describe, it } from 'vitest';
import type { BlockImage } from '../block-image.js';
import { openFileImage } from '../file/image.js';
import type { FileImageOptions } from '../file/options.js';
import { memoryImage } from '../memory/image.js';
import { nullImage } from '../memory/null-image.js';
import { threadRing } from '../uring/thread-ring.js';
import { faultyImage } from '../wrappers/faulty.js';
import { powerCutImage } from '../wrappers/power-cut/image.js';
import { rmwImage } from '../wrappers/rmw.js';
import { throttledImage } from '../wrappers/throttled.js';
import { testEngine } from './suite.js';

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
let files = 0;

/** Opens a file of this size without a block in it. */
function sparse(open: (path: string) => Promise<BlockImage>): (size: number) => Promise<BlockImage> {
  return async (size) => {
    const path = join(folder, `large-${files++}.img`);
    writeFileSync(path, '');
    truncateSync(path, size);
    return open(path);
  };
}

function testFileEngine(name: string, options: FileImageOptions): void {
  testEngine(
    { describe, it },
    {
      name,
      open(content, { readOnly }) {
        const path = join(folder, `disk-${files++}.img`);
        writeFileSync(path, content);
        return openFileImage(path, { ...options, readOnly });
      },
      openLarge: sparse((path) => openFileImage(path, options)),
    },
  );
}

for (const sectorSize of [512, 4096]) {
  testEngine(
    { describe, it },
    {
      name: `memory, ${sectorSize}-byte sectors`,
      open: async (data, { readOnly }) => memoryImage({ data, sectorSize, readOnly }),
    },
  );
  testEngine(
    { describe, it },
    {
      name: `null, ${sectorSize}-byte sectors`,
      forgetful: true,
      open: async ({ length }, { readOnly }) => nullImage({ size: length, sectorSize, readOnly }),
      openLarge: async (size) => nullImage({ size, sectorSize }),
    },
  );
  testFileEngine(`threads, ${sectorSize}-byte sectors`, { engine: 'threads', sectorSize });
  testFileEngine(`threads direct, ${sectorSize}-byte sectors`, { engine: 'threads', direct: true, sectorSize });
  testFileEngine(`sync, ${sectorSize}-byte sectors`, { engine: 'sync', sectorSize });
  testFileEngine(`sync direct, ${sectorSize}-byte sectors`, { engine: 'sync', direct: true, sectorSize });
  // file/image.test.ts has what happens without io_uring: kernel.io_uring_disabled, seccomp, no addon.
  needs(uring).describe('with io_uring', () => {
    testFileEngine(`io_uring, ${sectorSize}-byte sectors`, { engine: 'io_uring', direct: false, sectorSize });
    testFileEngine(`io_uring direct, ${sectorSize}-byte sectors`, { engine: 'io_uring', direct: true, sectorSize });
  });
}

testEngine(
  { describe, it },
  {
    name: '512-byte sectors over 4096-byte ones',
    threadBound: true,
    open: async (data, { readOnly }) => rmwImage(memoryImage({ data, sectorSize: 4096, readOnly })),
    over: (inner) => rmwImage(inner),
    openLarge: async (size) => rmwImage(nullImage({ size, sectorSize: 4096 })),
  },
);
testEngine(
  { describe, it },
  {
    name: 'faulty without faults',
    threadBound: true,
    open: async (data, { readOnly }) => faultyImage(memoryImage({ data, readOnly }), () => undefined),
    over: (inner) => faultyImage(inner, () => undefined),
    openLarge: async (size) => faultyImage(nullImage({ size }), () => undefined),
  },
);
testEngine(
  { describe, it },
  {
    name: 'throttled',
    threadBound: true,
    open: async (data, { readOnly }) => throttledImage(memoryImage({ data, readOnly }), { operationsPerSecond: 1e5 }),
    over: (inner) => throttledImage(inner, { operationsPerSecond: 1e5 }),
    openLarge: async (size) => throttledImage(nullImage({ size }), { operationsPerSecond: 1e5, bytesPerSecond: 1e9 }),
  },
);
testEngine(
  { describe, it },
  {
    name: 'with a cache that a power cut would empty',
    threadBound: true,
    open: async (data, { readOnly }) => powerCutImage(memoryImage({ data, readOnly })),
    over: (inner) => powerCutImage(inner),
    openLarge: async (size) => powerCutImage(nullImage({ size })),
  },
);
testEngine(
  { describe, it },
  {
    name: 'with a small such cache, over a file',
    threadBound: true,
    open: async (content, { readOnly }) => {
      const path = join(folder, `disk-${files++}.img`);
      writeFileSync(path, content);
      return powerCutImage(await openFileImage(path, { engine: 'threads', readOnly }), { cacheBytes: 65536 });
    },
  },
);
