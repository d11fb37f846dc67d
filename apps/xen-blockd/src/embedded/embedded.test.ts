import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FolderHost } from '../testing/folder-host.js';
import { BlockdProcess, runBlockd } from '../testing/process.js';
import { verifiedLoad } from './verified-load.js';

const addon = working('the addon of xen-sys', requireNativeAddon);

const MIB = 1024 * 1024;

needs(addon).describe('the daemon as a process, on a host in a folder', () => {
  let host: FolderHost;
  let image: string;

  beforeEach(async () => {
    host = await FolderHost.start();
    image = host.path('image');
    writeFileSync(image, '');
    truncateSync(image, 32 * MIB);
  });

  afterEach(() => host[Symbol.asyncDispose](), 30_000);

  const guest = (...args: string[]) => ['guest', image, '--dir', host.directory, ...args];
  /** The line of JSON of this guest that has the key. */
  const reported = (stdout: string, key: string) =>
    stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .find((facts) => key in facts);

  it('serves a guest of another process', async () => {
    await host.daemon();
    const { code, stdout } = await runBlockd(...guest('--json'));
    expect(code).toBe(0);
    expect(reported(stdout, 'connected')).toMatchObject({ connected: { size: 32 * MIB, readOnly: true } });
    const sha256 = createHash('sha256').update(readFileSync(image)).digest('hex');
    expect(reported(stdout, 'sha256')).toMatchObject({ sha256 });
  });

  it('is the only one as long as it lives, whatever socket another one is given', async () => {
    await host.daemon();
    const { code, stderr } = await runBlockd(
      'run',
      '--emulator',
      host.directory,
      '--control-socket',
      host.path('other'),
    );
    expect(stderr).toMatch(/runs already \(pid \d+\)/);
    expect(code).toBe(75);
  });

  it('a guest sees a pause when the daemon is killed and started again, and loses nothing', async () => {
    let daemon = await host.daemon();
    const args = ['--writable', '--load', '--seconds', '6', '--queues', '2', '--ring-page-order', '2', '--json'];
    const loaded = new BlockdProcess(guest(...args));
    await expect.poll(() => loaded.stdout, { timeout: 15_000 }).toContain('connected');
    for (let kills = 0; kills < 3; kills++) {
      await host.kill(daemon);
      daemon = await host.daemon();
      await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"adopted":true');
    }
    const { code, stdout } = await loaded.ended;
    const report = reported(stdout, 'writes');
    expect(report).toMatchObject({ errors: 0, wrong: 0 });
    expect(Number(report?.writes)).toBeGreaterThan(0);
    expect(code).toBe(0);
  }, 90_000);

  it('a guest that is killed is destroyed, and its disk with it', async () => {
    const daemon = await host.daemon('--log-level', 'debug');
    const loaded = new BlockdProcess(guest('--writable', '--load', '--seconds', '60'));
    await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"Connected"');
    loaded.signal('SIGKILL');
    await loaded.ended;
    await expect.poll(() => daemon.stderr, { timeout: 15_000 }).toContain('"device gone"');
    expect((await runBlockd(...guest())).code).toBe(0);
  }, 60_000);

  it('a guest without a daemon says what to start', async () => {
    const { code, stderr } = await runBlockd(...guest());
    expect(code).toBe(1);
    expect(stderr).toContain(`xen-blockd run --emulator ${host.directory}`);
  }, 60_000);

  it('a guest is told why the daemon refuses its disk', async () => {
    await host.daemon();
    truncateSync(image, 100);
    const { code, stderr } = await runBlockd(...guest('--writable'));
    expect([code, stderr]).toEqual([1, expect.stringMatching(/100 bytes are not whole sectors/)]);
    truncateSync(image, MIB);
    const first = new BlockdProcess(guest('--writable', '--load', '--seconds', '60'));
    await expect.poll(() => first.stdout, { timeout: 15_000 }).toContain('connected');
    const second = await runBlockd(...guest('--writable'));
    expect([second.code, second.stderr]).toEqual([1, expect.stringMatching(/the backend says: ERR_IMAGE_IN_USE/)]);
    first.signal('SIGTERM');
    await first.ended;
  }, 60_000);

  it('refuses a second host in the folder', async () => {
    const { code, stderr } = await runBlockd('host', '--dir', host.directory);
    expect(code).toBe(1);
    expect(stderr).toMatch(/in use by another process/);
  });
});

describe('commands for a host in a folder', () => {
  const directory = mkdtempSync('/tmp/blockd-');
  const image = join(directory, 'image');
  writeFileSync(image, Buffer.alloc(MIB));
  afterAll(() => rmSync(directory, { recursive: true }));

  it.each([
    [['guest', image, '--dir', directory], 69, /no emulated host answers/],
    [['run', '--emulator', directory], 69, /no emulated host answers/],
    [['guest', join(directory, 'none'), '--dir', directory], 1, /none/],
    [['guest', image, '--dir', directory, '--load'], 2, /--writable/],
    [['guest', image, '--dir', directory, '--writable', '--load', '--nbd', '/tmp/x'], 2, /one of them/],
    [['guest', image], 2, /--dir/],
    [['host'], 2, /--dir/],
    [['host', '--dir', `/tmp/${'x'.repeat(120)}`], 1, /longer|shorter|ENAMETOOLONG/],
  ])('%j ends with %i', async (args, code, message) => {
    const outcome = await runBlockd(...args);
    expect([outcome.code, outcome.stderr]).toEqual([code, expect.stringMatching(message)]);
  });
});

describe('a load that knows what must be on the disk', () => {
  /** A disk in memory that `spoil` may damage. */
  function disk(spoil: (memory: Buffer) => void) {
    const memory = Buffer.alloc(MIB);
    return {
      size: MIB,
      read: async (offset: number, length: number) => {
        spoil(memory);
        return memory.subarray(offset, offset + length);
      },
      write: async (offset: number, data: Uint8Array) => void memory.set(data, offset),
      flush: async () => {},
    };
  }

  async function reportOf(spoil: (memory: Buffer) => void) {
    const stop = new AbortController();
    let left = 400;
    const counted = { ...disk(spoil) };
    const { write } = counted;
    counted.write = async (offset, data) => {
      if (left-- === 0) stop.abort();
      await write(offset, data);
    };
    return verifiedLoad(counted, { depth: 4, signal: stop.signal });
  }

  it('finds nothing wrong with an honest one', async () => {
    expect(await reportOf(() => {})).toMatchObject({ errors: 0, wrong: 0 });
  });

  it.each([
    ['a byte that changed', (memory: Buffer) => memory.writeUInt8(memory[777 * 512 + 300] ^ 1, 777 * 512 + 300)],
    ['a sector of another place', (memory: Buffer) => memory.copy(memory, 261 * 512, 260 * 512, 261 * 512)],
    ['a sector that was lost', (memory: Buffer) => memory.fill(0, 261 * 512, 262 * 512)],
  ])('finds %s', async (_, spoil) => {
    expect((await reportOf(spoil)).wrong).toBeGreaterThan(0);
  });

  it('counts what was refused, with the first reason', async () => {
    const report = await reportOf(() => {
      throw new Error('EIO');
    });
    expect(report).toMatchObject({ firstError: 'EIO', wrong: 0 });
    expect(report.errors).toBeGreaterThan(0);
  });
});
