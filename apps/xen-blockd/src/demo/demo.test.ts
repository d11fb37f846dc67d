import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boundByPermissions, needs, setpriv } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { packageRoot } from '../package-root.js';
import { BlockdProcess, PROGRAM, runBlockd } from '../testing/process.js';
import { runTool } from '../tools.js';

const MIB = 1024 * 1024;

let directory: string;
let image: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'demo-test-'));
  image = join(directory, 'image');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Writes an image of random bytes; returns its SHA-256. */
function makeRandomImage(bytes: number): string {
  const data = randomBytes(bytes);
  writeFileSync(image, data);
  return createHash('sha256').update(data).digest('hex');
}

const hashesIn = (stdout: string) => stdout.split('\n').filter((line) => line.startsWith('sha256 '));

describe('the guest reads what is in the image', { timeout: 60_000 }, () => {
  const cases = ['x86_32', 'x86_64', 'arm'].flatMap((abi) =>
    ['0', '4'].flatMap((order) => [1, 8].map((guests) => [abi, order, guests] as const)),
  );

  it.each(cases)('abi %s, ring page order %s, %s guests', async (abi, order, guests) => {
    // Not a whole number of pages, nor of the chunks that it is read in.
    const hash = makeRandomImage(5 * MIB + 3 * 512);
    const options = ['--abi', abi, '--ring-page-order', order, '--guests', `${guests}`];
    const { code, stdout, stderr } = await runBlockd('demo', image, ...options);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(hashesIn(stdout)).toEqual(new Array(guests).fill(`sha256 ${hash}`));
  });

  it('shows the handshake, the rate and the counters, and detaches', async () => {
    makeRandomImage(MIB);
    const { stdout } = await runBlockd('demo', image, '--vdev', 'xvdb3', '--ring-page-order', '1');
    const shown = [
      'as xvdb3 (51731)',
      'backend   state = 2 (InitWait)',
      'backend   max-ring-page-order = 4',
      'frontend  ring-page-order = 1',
      'frontend  ring-ref1 = ',
      'frontend  protocol = x86_64-abi',
      'frontend  state = 3 (Initialised)',
      'backend   sectors = 2048',
      'backend   state = 4 (Connected)',
      'read 1.0 MiB in ',
      'counters of the device',
      'backend   state = 6 (Closed)',
      'guest1  detached; left behind: 0 grants, 0 mappings, 0 event channels',
    ];
    for (const text of shown) expect(stdout).toContain(text);
    expect(stdout).toMatch(/MiB\/s/);
  });

  it('prints one JSON object with --json', async () => {
    const hash = makeRandomImage(MIB);
    const { stdout } = await runBlockd('demo', image, '--json', '--guests', '2');
    const { guests, ...rest } = JSON.parse(stdout);
    expect(rest).toMatchObject({ image, readOnly: true, vdev: 'xvda', devid: 51712, abi: 'x86_64' });
    expect(guests).toHaveLength(2);
    for (const guest of guests) {
      expect(guest).toMatchObject({ sha256: hash, disk: { size: MIB, readOnly: true } });
      expect(guest.statistics.read.bytes).toBe(MIB);
      expect(guest.left).toEqual({ grants: 0, mapped: 0, ports: 0 });
      expect(guest.handshake).toContainEqual(expect.objectContaining({ end: 'backend', key: 'state', value: '4' }));
    }
  });
});

describe('without an IMAGE', { timeout: 60_000 }, () => {
  needs('mke2fs').it('it serves a file system of the documentation, and leaves nothing behind', async () => {
    vi.stubEnv('TMPDIR', directory);
    const { code, stdout } = await runBlockd('demo').finally(() => vi.unstubAllEnvs());
    expect(code).toBe(0);
    expect(stdout).toContain('an ext4 file system of the documentation');
    expect(hashesIn(stdout)).toHaveLength(1);
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe("the guest's disk over NBD", { timeout: 60_000 }, () => {
  let socket: string;
  let uri: string;
  let demo: BlockdProcess;

  beforeEach(() => {
    socket = join(directory, 'nbd');
    uri = `nbd+unix:///?socket=${socket}`;
  });

  // Only a test that failed has left it running.
  afterEach(() => demo.signal('SIGKILL'));

  async function lend(...options: string[]): Promise<void> {
    demo = new BlockdProcess(['demo', image, '--nbd', socket, ...options]);
    await demo.line(`nbd ready ${socket}`);
  }

  async function end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    demo.signal(signal);
    const { code, stdout, stderr } = await demo.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('guest1  detached; left behind: 0 grants, 0 mappings, 0 event channels');
    expect(readdirSync(directory)).not.toContain('nbd');
  }

  needs('mke2fs', 'e2fsck', 'qemu-img').it('a file system written through it is clean', async () => {
    const made = join(directory, 'made');
    const docs = new URL('../../docs', packageRoot).pathname;
    expect(await runTool('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', docs, made, '24M'])).toMatchObject({ code: 0 });
    writeFileSync(image, '');
    truncateSync(image, 24 * MIB);
    await lend('--writable');
    const convert = ['convert', '-n', '-f', 'raw', '-O', 'raw', made, uri];
    expect(await runTool('qemu-img', convert)).toMatchObject({ code: 0, stderr: '' });
    await end();
    expect(await runTool('e2fsck', ['-fn', image])).toMatchObject({ code: 0 });
    expect(readFileSync(image).equals(readFileSync(made))).toBe(true);
  });

  needs('fio').it('random writes at depth 32 are verified', async () => {
    makeRandomImage(16 * MIB);
    await lend('--writable', '--abi', 'x86_32', '--ring-page-order', '2');
    const job = ['--rw=randwrite', '--bsrange=512-128k', '--iodepth=32', '--size=16m', '--verify=crc32c'];
    const output = ['--verify_fatal=1', '--output-format=json', '--output=report'];
    const args = ['--name=verify', '--ioengine=nbd', `--uri=${uri}`, ...job, ...output];
    expect(await runTool('fio', args, { cwd: directory })).toMatchObject({ code: 0, stderr: '' });
    const report = JSON.parse(readFileSync(join(directory, 'report'), 'utf8'));
    expect(report.jobs[0]).toMatchObject({ error: 0, write: { io_bytes: 16 * MIB } });
    await end('SIGINT');
  });

  needs('nbdcopy', 'nbdinfo').it('a read-only disk can be copied, not written', async () => {
    const hash = makeRandomImage(8 * MIB + 512);
    await lend();
    const copy = join(directory, 'copy');
    expect(await runTool('nbdcopy', [uri, copy])).toMatchObject({ code: 0 });
    expect(createHash('sha256').update(readFileSync(copy)).digest('hex')).toBe(hash);
    const info = await runTool('nbdinfo', ['--json', '--no-content', uri]);
    expect(JSON.parse(info.stdout).exports[0]).toMatchObject({ 'export-size': 8 * MIB + 512, is_read_only: true });
    expect((await runTool('nbdcopy', [copy, uri])).code).not.toBe(0);
    await end('SIGHUP');
  });

  needs('xenstore-ls').it('the xenstore tools see the embedded xenstored', async () => {
    makeRandomImage(MIB);
    const store = join(directory, 'xenstored');
    await lend('--xenstore', store);
    const env = { XENSTORED_PATH: store };
    const backend = '/local/domain/0/backend/qdisk/1/51712';
    expect(await runTool('xenstore-read', [`${backend}/state`], { env })).toMatchObject({ code: 0, stdout: '4\n' });
    const listed = await runTool('xenstore-ls', ['-f', backend], { env });
    expect(listed.stdout).toContain(`${backend}/sectors = "2048"`);
    const watch = runTool('xenstore-watch', ['-n', '2', '/tool/test'], { env });
    // The first event comes when the watch is registered, the second is of the write.
    await expect.poll(() => runTool('xenstore-write', ['/tool/test', 'written'], { env })).toMatchObject({ code: 0 });
    const again = setInterval(() => void runTool('xenstore-write', ['/tool/test', 'again'], { env }), 200);
    expect(await watch).toMatchObject({ code: 0, stdout: '/tool/test\n/tool/test\n' });
    clearInterval(again);
    await end();
    expect(readdirSync(directory)).not.toContain('xenstored');
  });
});

describe('bad input: one line, and nothing left running', { timeout: 60_000 }, () => {
  async function expectFailure(args: string[], code: number, ...texts: string[]): Promise<void> {
    const outcome = await runBlockd('demo', ...args);
    expect(outcome).toMatchObject({ code, stdout: '' });
    expect(outcome.stderr).toMatch(/^xen-blockd: [^\n]+\n$/);
    for (const text of texts) expect(outcome.stderr).toContain(text);
  }

  it.each<[string, string[], ...string[]]>([
    ['a wrong vdev', ['--vdev', 'xvd1'], '--vdev xvd1'],
    ['an unknown option', ['--typo'], '--typo'],
    ['a wrong ABI', ['--abi', 'mips'], 'x86_32, x86_64, arm'],
    ['a wrong order', ['--ring-page-order', '5'], 'from 0 to 4'],
    ['a wrong number of guests', ['--guests', 'many'], 'from 1 to 64'],
    ['two images', ['a', 'b'], 'too many arguments'],
    ['both modes', ['--read-only', '--writable'], '--writable'],
    ['several writers', ['--writable', '--guests', '2'], 'must not write'],
    ['NBD of several guests', ['--nbd', '/tmp/x', '--guests', '2'], '--nbd'],
  ])('%s is wrong usage', async (_, args, ...texts) => {
    await expectFailure(args, 2, ...texts);
  });

  it('a missing image', () => expectFailure([join(directory, 'none')], 1, 'none', 'no such file'));
  it('a directory', () => expectFailure([directory], 1, directory, 'directory'));

  it('an empty image', async () => {
    writeFileSync(image, '');
    await expectFailure([image], 1, image, 'empty', 'truncate');
  });

  it('an image that is not whole sectors', async () => {
    writeFileSync(image, 'x'.repeat(1000));
    await expectFailure([image], 1, image, '1000 bytes', 'truncate -s 1024');
  });

  needs(setpriv).it('an image that may not be read', async () => {
    makeRandomImage(512);
    chmodSync(image, 0);
    const outcome = await runTool(...boundByPermissions(process.execPath, [PROGRAM, 'demo', image]));
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toMatch(/^xen-blockd: [^\n]+\n$/);
    for (const text of [image, 'permissions']) expect(outcome.stderr).toContain(text);
  });

  it.each(['--nbd', '--xenstore'])('a socket in use: %s', async (option) => {
    makeRandomImage(512);
    const path = join(directory, 'socket');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await expectFailure([image, option, path], 1, path, 'in use');
    await new Promise((resolve) => server.close(resolve));
  });

  it('a socket whose directory is missing, or that is a directory', async () => {
    makeRandomImage(512);
    await expectFailure([image, '--nbd', join(directory, 'none', 'socket')], 1, 'directory does not exist');
    mkdirSync(join(directory, 'socket'));
    await expectFailure([image, '--xenstore', join(directory, 'socket')], 1, 'not a socket');
  });
});
