import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { needs, working } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { loadAddon } from '../addon/addon.js';
import { Errno } from '../errno.js';
import { Fifo } from './fifo.js';
import { futexWait, futexWake } from './futex.js';
import { mapSharedFile, mapSparseFile } from './shared-file.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'futex-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const addon = working('the addon of xen-sys', loadAddon);

needs(addon).describe('memory that processes share', () => {
  needs(addon).it('a futex returns at once for another value, and in time without a wake', () => {
    const { buffer } = mapSharedFile(join(folder, 'words'), 4096);
    const words = new Int32Array(buffer);
    expect(futexWait(words, 3, 1, 1000)).toBe(Errno.EAGAIN);
    expect(futexWait(words, 3, 0, 5)).toBe(-110);
    expect(futexWait(words, 3, 0, 0)).toBe(-110);
    expect(futexWake(words, 3, 1)).toBe(0);
    expect(() => futexWait(words, 1024, 0, 5)).toThrow(RangeError);
  });

  needs(addon).it('a thread that maps the same file wakes a sleeper', async () => {
    const path = join(folder, 'words');
    const words = new Int32Array(mapSparseFile(path, 4096).buffer);
    const module = new URL('../../dist/index.js', import.meta.url).href;
    const worker = new Worker(
      `import(${JSON.stringify(module)}).then(({ mapSparseFile, futexWake }) => {
        const words = new Int32Array(mapSparseFile(${JSON.stringify(path)}, 4096).buffer);
        while (Atomics.load(words, 1) === 0);
        Atomics.store(words, 0, 1);
        while (futexWake(words, 0) === 0 && Atomics.load(words, 2) === 0);
      })`,
      { eval: true },
    );
    await new Promise((resolve) => worker.once('online', resolve));
    Atomics.store(words, 1, 1);
    const result = futexWait(words, 0, 0, 20_000);
    Atomics.store(words, 2, 1);
    expect([0, Errno.EAGAIN]).toContain(result);
    expect(Atomics.load(words, 0)).toBe(1);
    await worker.terminate();
  });

  needs(addon).it('a named pipe wakes an event loop, by whatever handle', async () => {
    const path = join(folder, 'bell');
    const listener = new Fifo(path);
    const ringer = new Fifo(path);
    for (let i = 0; i < 3; i++) {
      const woken = new Promise<void>((resolve) => listener.listen(resolve));
      for (let n = 0; n < 100_000; n += 10_000) ringer.wake();
      await woken;
      listener.stop();
    }
    ringer.close();
    ringer.close();
    listener.close();
  });
});
