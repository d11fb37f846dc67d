import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RunningBlockd } from '../testing/process.js';
import { RunFolder } from '../testing/run-folder.js';

// A program starts, with all that else runs on the machine.
vi.setConfig({ testTimeout: 60_000 });

let folder: RunFolder;
beforeEach(() => {
  folder = new RunFolder();
});
afterEach(() => folder[Symbol.asyncDispose]());

async function reload(daemon: RunningBlockd, ...lines: string[]): Promise<void> {
  folder.configure(...lines);
  daemon.signal('SIGHUP');
}

/** What the daemon offers to the frontend of a disk. */
function offered(daemon: RunningBlockd, domid: number): Promise<string> {
  return daemon.inXen(
    ({ store }, id) => store.read(`/local/domain/0/backend/qdisk/${id}/51712/multi-queue-max-queues`),
    domid,
  );
}

describe('a reload', () => {
  it('takes log level, metrics, page, image directories and limits over, and touches no disk', async () => {
    folder.configure('max-queues = 3', 'log-level = "info"');
    const daemon = folder.run();
    await daemon.ready();
    const first = await daemon.attach(folder.image);
    mkdirSync(folder.path('images'));
    writeFileSync(folder.path('images/b'), Buffer.alloc(1 << 20));
    const metrics = folder.path('metrics');
    const page = folder.path('page');
    await reload(
      daemon,
      'max-queues = 2',
      'log-level = "debug"',
      `metrics = "${metrics}"`,
      `page = "${page}"`,
      `image-directories = ["${folder.path('images')}"]`,
    );
    await daemon.says('configuration loaded again');
    expect(daemon.stderr).toMatch(/"changed":"[^"]*max-queues/);
    expect(daemon.stderr).not.toContain('needsRestart');
    expect(existsSync(metrics)).toBe(true);
    expect(existsSync(page)).toBe(true);
    const second = await daemon.attach(folder.path('images/b'));
    await daemon.says('device found');
    expect(await offered(daemon, first)).toBe('3');
    expect(await offered(daemon, second)).toBe('2');
    await expect(daemon.attach(folder.image)).rejects.toThrow('Closing');
    await daemon.says('not in one of image-directories');
    expect(await daemon.reads(first)).toBe(true);
    daemon.signal('SIGTERM');
    expect((await daemon.ended).code).toBe(0);
  });

  it('names what needs another start', async () => {
    folder.configure();
    const daemon = folder.run();
    await daemon.ready();
    await reload(daemon, 'threads = 2', 'types = ["vbd3"]', 'log-level = "debug"');
    await daemon.says('configuration loaded again');
    expect(daemon.stderr).toMatch(/"changed":"log-level","needsRestart":"(threads,types|types,threads)"/);
  });

  it.each([
    ['a syntax error', 'log-level = "debug'],
    ['an unknown key', 'colour = "red"'],
    ['a value out of range', 'max-queues = 100000'],
  ])('of a configuration with %s says so, and the former one stays', async (_, line) => {
    folder.configure();
    const daemon = folder.run();
    await daemon.ready();
    const guest = await daemon.attach(folder.image);
    await reload(daemon, line);
    await daemon.says('the configuration is wrong; the former one stays');
    expect(daemon.stderr).toContain(folder.config);
    expect(await daemon.reads(guest)).toBe(true);
    await reload(daemon, 'log-level = "debug"');
    await daemon.says('configuration loaded again');
    expect(daemon.stderr).toContain('"changed":"log-level"');
  });

  it('asked for many times at once, and while the daemon starts and stops, ends nothing', async () => {
    folder.configure();
    const daemon = folder.run();
    await expect.poll(() => existsSync(folder.control), { timeout: 20_000 }).toBe(true);
    for (let i = 0; i < 50; i++) daemon.signal('SIGHUP');
    await daemon.ready();
    const guest = await daemon.attach(folder.image);
    for (let i = 0; i < 50; i++) daemon.signal('SIGHUP');
    await daemon.says('configuration loaded again');
    expect(await daemon.reads(guest)).toBe(true);
    daemon.signal('SIGTERM');
    daemon.signal('SIGHUP');
    expect((await daemon.ended).code).toBe(0);
  });

  it('of metrics on an address in use is told, and disks are served', async () => {
    folder.configure();
    const daemon = folder.run();
    await daemon.ready();
    const guest = await daemon.attach(folder.image);
    await reload(daemon, `metrics = "${folder.control}"`);
    await daemon.says('no metrics');
    expect(await daemon.reads(guest)).toBe(true);
  });
});
