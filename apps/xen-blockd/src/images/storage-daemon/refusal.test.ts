import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { boundByPermissions, needs, setpriv } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HelperBench } from '../../testing/storage-helpers.js';
import { type FormatImageOptions, openFormatImage } from './format-image.js';

let bench: HelperBench;

beforeEach(() => {
  bench = new HelperBench();
});
afterEach(async () => {
  bench.expectNothingLeft();
  await bench[Symbol.asyncDispose]();
});

/** The error of an opening that must fail. */
async function refusal(path: string, options: Partial<FormatImageOptions> = {}): Promise<Error> {
  // Nobody lets go of what is locked here.
  const given = { times: { lockedMs: 0 }, ...options };
  const outcome = await openFormatImage(bench.options(path, given)).catch((error: Error) => error);
  if (outcome instanceof Error) return outcome;
  await outcome.close();
  throw new Error(`${path} was opened`);
}

const qemu = needs('qemu-img', 'qemu-storage-daemon');

describe('a refused image', () => {
  const ROUNDS = 20;

  async function expectReason(path: string, reason: RegExp): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      const error = await refusal(path);
      expect(error).toMatchObject({ code: 'ERR_IMAGE', path, message: expect.stringMatching(reason) });
      expect(error.message.startsWith(`${path}: `)).toBe(true);
      expect(error.message).not.toContain('--blockdev');
    }
  }

  qemu.it('of another format has its reason, each time', async () => {
    const path = bench.path('of another: format, "quoted"');
    writeFileSync(path, Buffer.alloc(1 << 20));
    await expectReason(path, /: Image is not in qcow2 format \(qemu-storage-daemon ended with exit code 1\)$/);
  });

  qemu.it('that is missing has its reason, each time', async () => {
    await expectReason(bench.path('missing'), /: it does not exist$/);
  });

  qemu.it('with a corrupt header has its reason, each time', async () => {
    const path = await bench.qcow2();
    const content = readFileSync(path);
    content.writeUInt32BE(99, 4);
    writeFileSync(path, content);
    await expectReason(path, /Unsupported qcow2 version 99 \(/);
  });

  qemu.it('that another process has locked has its reason, each time', async () => {
    const path = await bench.qcow2();
    await using _holder = await openFormatImage(bench.options(path));
    await expectReason(path, /Failed to get "write" lock; Is another process using the image/);
  });

  needs('qemu-img', 'qemu-storage-daemon', setpriv).it('that may not be opened has its reason, each time', async () => {
    const path = await bench.qcow2();
    chmodSync(path, 0);
    const [program, args] = boundByPermissions('"$REAL"', ['"$@"']);
    bench.fake(`exec ${[program, ...args].join(' ')}`);
    await expectReason(path, /Permission denied \(/);
  });

  qemu.it('that cannot be written has its reason', async () => {
    const path = await bench.qcow2();
    copyFileSync(path, `${path}.base`);
    bench.fake('shift 4; exec "$REAL" --blockdev driver=null-co,node-name=disk,read-only=on "$@"');
    expect(await refusal(path)).toMatchObject({ message: expect.stringMatching(/read-only .*exit code 1\)$/) });
  });
});

describe('a storage helper that is none', () => {
  it('because it is missing is an error that says what to install', async () => {
    bench.install('', 0o644);
    expect(await refusal('/x')).toMatchObject({
      code: 'ERR_TOOL',
      path: '/x',
      message: expect.stringMatching(/^\/x: format qcow2 needs qemu-storage-daemon.* apt-get install/),
    });
  });

  it.each([
    ['without its interpreter', '#!/no/such/interpreter\n', /cannot be started: spawn .*ENOENT/],
    ['of another machine', '\x7fELF rubbish', /cannot be started: spawn .*(ENOEXEC|UNKNOWN)|ended with exit code/],
  ])('%s is an error that says so', async (_, content, reason) => {
    bench.install(content, 0o755);
    const error = await refusal(bench.file());
    expect(error).toMatchObject({ code: 'ERR_IMAGE', message: expect.stringMatching(reason) });
  });

  it('because it does not get ready is an error at the deadline, and ends with all that it started', async () => {
    bench.fake('sleep 600 & sleep 600');
    const error = await refusal(bench.file(), { times: { startMs: 200 } });
    expect(error).toMatchObject({ code: 'ERR_TIMEOUT', message: expect.stringContaining('does not get ready') });
  });

  qemu.it.each([
    ['listens and never gets ready', 300, '', 'does not get ready'],
    ['gets ready and never answers', 2000, 'touch "$ready"', 'does not answer'],
  ])('because it %s is an error at the deadline', async (_, startMs, then, reason) => {
    // The genuine one, stopped when it is about to listen for connections.
    bench.fake(`
      for ready; do :; done
      "$REAL" "$@" --pidfile ${bench.path('other')} &
      while [ ! -e ${bench.path('other')} ]; do sleep 0.01; done
      kill -STOP $!; ${then}
      wait`);
    const error = await refusal(await bench.qcow2(), { times: { startMs } });
    expect(error).toMatchObject({ code: 'ERR_TIMEOUT', message: expect.stringContaining(reason) });
  });

  it('because it kills itself at each start is an error that names the signal', async () => {
    const starts = bench.path('starts');
    bench.fake(`echo >> ${starts}; echo 'out of luck' >&2; kill -ABRT $$`);
    const error = await refusal(bench.file());
    expect(error).toMatchObject({
      code: 'ERR_IMAGE',
      message: expect.stringMatching(/: out of luck \(qemu-storage-daemon was killed by SIGABRT\)$/),
    });
    expect(readFileSync(starts, 'utf8')).toHaveLength(3);
  });

  it('because it is killed by others is one only after the time that a start may take', async () => {
    bench.fake('kill -KILL $$');
    const began = performance.now();
    const error = await refusal(bench.file(), { times: { startMs: 1000, retryMs: 1, retryMostMs: 20 } });
    expect(error).toMatchObject({ code: 'ERR_IMAGE', message: expect.stringContaining('was killed by SIGKILL') });
    expect(performance.now() - began).toBeGreaterThanOrEqual(1000);
  });

  it('because it ends after it was ready has its reason', async () => {
    bench.fake('while [ "$1" != --pidfile ]; do shift; done; echo $$ > "$2"; echo "the end" >&2; exit 3');
    const error = await refusal(bench.file());
    expect(error).toMatchObject({
      message: expect.stringMatching(/: the end \(qemu-storage-daemon ended with exit code 3\)$/),
    });
  });

  it('that talks without end leaves a reason of its first and last words', async () => {
    bench.fake('echo first words >&2; seq 1 300000 >&2; echo last words >&2; exit 1');
    const { message } = await refusal(bench.file());
    expect(message).toMatch(/: first words; 1; 2; .* … .*299999; 300000; last words \(/);
    expect(message.length).toBeLessThan(1500);
  });

  it('that ends with its standard error still open does not keep the opening', async () => {
    bench.fake('sleep 600 & echo gone >&2; exit 1');
    expect((await refusal(bench.file())).message).toContain(': gone (');
  });
});
