import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { nbdDiskOf, PinnedFile } from '@xenpv/blockdev';
import { needs, working } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HelperBench, processesWith } from '../../testing/storage-helpers.js';
import { type CagedTask, cagedCommand, cageInForce, cageProblem } from './cage.js';
import { openFormatImage } from './format-image.js';

const SECRET = Buffer.alloc(4096, 'S');

let bench: HelperBench;

beforeEach(() => {
  bench = new HelperBench();
});
afterEach(() => bench[Symbol.asyncDispose]());

const problem = await cageProblem();
const cage = { name: 'namespaces', met: () => problem === undefined };

const protection = working('the right to protect processes from the want of memory', () =>
  execFileSync('sh', ['-c', 'echo -900 > /proc/self/oom_score_adj'], { stdio: 'ignore' }),
);

/** What a shell says that runs in the cage. */
async function inCage(script: string, task: Partial<CagedTask> = {}) {
  const args = ['-c', script];
  const all = { program: '/usr/bin/dash', args, files: [], readOnly: new Set<PinnedFile>(), folder: bench.directory };
  const { program, args: command, options } = cagedCommand({ ...all, ...task });
  const { status, signal, stdout, stderr } = spawnSync(program, command, { ...options, encoding: 'utf8' });
  return { status, signal, stdout, stderr };
}

needs('qemu-img', 'qemu-storage-daemon', cage).describe('a storage helper', () => {
  it.each([
    ['of root', undefined, 0, '0000000000000000'],
    ['of another user', 'nobody', 65534, '0000000000000002'],
  ])('F6: %s sees its image and no other file, has no process beside it, no network, no rights', async (...row) => {
    const [, user, uid, capabilities] = row;
    const base = bench.path('base');
    writeFileSync(base, Buffer.alloc(1 << 20, 'B'));
    const path = await bench.qcow2();
    execFileSync('qemu-img', ['rebase', '-u', '-b', base, '-F', 'raw', path]);
    await using image = await openFormatImage(bench.options(path, { user }));
    await using disk = nbdDiskOf(image);
    await disk.write(0, SECRET);
    expect(Buffer.from(await disk.read(0, 8192)).toString('latin1')).toBe('S'.repeat(4096) + 'B'.repeat(4096));
    const [pid, ...others] = processesWith(path);
    expect(others).toEqual([]);
    const proc = (name: string) => `/proc/${pid}/${name}`;
    const status = readFileSync(proc('status'), 'latin1');
    expect(status).toMatch(new RegExp(`^Uid:\\s${uid}\\s${uid}\\s`, 'm'));
    expect(status).toMatch(/^Groups:\s*$/m);
    for (const set of ['Eff', 'Prm', 'Bnd']) expect(status).toMatch(new RegExp(`^Cap${set}:\\s${capabilities}$`, 'm'));
    expect(status).toMatch(/^NoNewPrivs:\s1$/m);
    expect(status).toMatch(/^NSpid:\s\d+\s1$/m);
    for (const kind of ['mnt', 'net', 'pid', 'ipc', 'uts']) {
      expect(readlinkSync(proc(`ns/${kind}`))).not.toBe(readlinkSync(`/proc/self/ns/${kind}`));
    }
    const limits = readFileSync(proc('limits'), 'latin1');
    expect(limits).toMatch(/^Max core file size\s+0\s+0/m);
    expect(limits).toMatch(/^Max open files\s+1024\s+1024/m);
    expect(limits).toMatch(/^Max data size\s+4294967296\s+4294967296/m);
    const top = readdirSync(proc('root')).filter((name) => !/^(usr|bin|sbin|lib\w*)$/.test(name));
    expect(top.sort()).toEqual(['dev', 'tmp']);
    expect(readdirSync(proc('root/dev')).sort()).toEqual(['fd', 'null']);
    expect(readdirSync(proc('root/dev/fd')).sort()).toEqual(['3', '4']);
    expect(readdirSync(proc('root/tmp'), { recursive: true }).length).toBeLessThan(8);
    const mounts = readFileSync(proc('mountinfo'), 'latin1').split('\n');
    const flagsOf = (place: string) => mounts.find((line) => line.split(' ')[4] === place)?.split(' ')[5];
    expect(flagsOf('/dev/fd/3')).toMatch(/^rw/);
    for (const place of ['/', '/usr', '/dev/fd/4']) expect(flagsOf(place)).toMatch(/^ro/);
  });

  it('is locked out by another one of the same image', async () => {
    const path = await bench.qcow2();
    await using _first = await openFormatImage(bench.options(path));
    await expect(openFormatImage(bench.options(path))).rejects.toThrow(/Failed to get "write" lock/);
  });
});

needs(cage).describe('a cage', () => {
  it('runs a program with the files that were found, under their numbers', async () => {
    writeFileSync(bench.path("it's a file"), 'found');
    await using file = await PinnedFile.open(bench.path("it's a file"));
    expect(await inCage('cat /dev/fd/3; echo more >> /dev/fd/3', { files: [file] })).toMatchObject({
      status: 0,
      stdout: 'found',
    });
    const again = await inCage('cat /dev/fd/3; echo more >> /dev/fd/3', { files: [file], readOnly: new Set([file]) });
    expect(again).toMatchObject({ status: 2, stdout: 'foundmore\n', stderr: expect.stringContaining('Read-only') });
  });

  it.each([
    ['opens no file of the host', 'cat /etc/passwd'],
    ['sees no process', 'cat /proc/1/status'],
    ['ends no process', `kill -KILL ${process.pid}`],
    ['makes no file', 'echo > /x'],
    ['makes no device', 'mknod /tmp/x b 7 0'],
    ['mounts nothing', 'mount -t proc none /tmp'],
    ['gets no user namespace', 'unshare --user --map-root-user true'],
    ['leaves no chroot', 'chroot / true'],
  ])('%s', async (_, script) => {
    expect(await inCage('true')).toMatchObject({ status: 0, stderr: '' });
    const { status, stderr } = await inCage(script);
    expect(status).not.toBe(0);
    expect(stderr).not.toBe('');
  });

  it('takes no more memory than an image may need', async () => {
    const copy = (size: string) => inCage(`dd if=/dev/null of=/dev/null bs=${size}`);
    expect(await copy('64M')).toMatchObject({ status: 0 });
    expect(await copy('5G')).toMatchObject({ status: 1, stderr: expect.stringMatching(/memory exhausted/) });
  });

  it('of an image on the network has its files and those of the resolver, and no others', async () => {
    writeFileSync(bench.path('keyring'), 'key');
    await using file = await PinnedFile.open(bench.path('keyring'));
    const find =
      "find / \\( -path '/usr/*' -o -path '/lib*/*' -o -path '/bin/*' -o -path '/sbin/*' \\) -prune -o -type f -print";
    const task = { files: [file], readOnly: new Set([file]), network: true, environment: { CEPH_ARGS: '--here' } };
    const { stdout } = await inCage(`${find}; echo $CEPH_ARGS; cat /dev/fd/3`, task);
    const lines = stdout.split('\n');
    expect(lines.splice(-2)).toEqual(['--here', 'key']);
    const allowed = /^\/dev\/(fd\/3|null)$|^\/etc\/(resolv\.conf|hosts|nsswitch\.conf|gai\.conf)$/;
    const others = lines.filter((line) => !allowed.test(line) && !line.startsWith(bench.directory));
    expect(others).toEqual([]);
    expect(lines).toContain('/etc/hosts');
    const write = await inCage('echo > /dev/fd/3; echo > /etc/hosts', task);
    expect(write.stderr).toMatch(/Read-only.*\n.*Read-only/);
  });

  needs(protection).it.each([
    ['-900', '-500'],
    ['-100', '-100'],
    ['0', '0'],
  ])('is ended for want of memory after most others, and before its daemon: of %s it makes %s', async (own, its) => {
    const adjustment = '/proc/self/oom_score_adj';
    const before = readFileSync(adjustment, 'latin1');
    const folder = bench.directory;
    const { program, args, options } = cagedCommand({
      ...{ program: '/usr/bin/dash', args: ['-c', `echo > ${folder}/runs; read -r end < ${folder}/end`] },
      ...{ files: [], readOnly: new Set<PinnedFile>(), folder },
    });
    execFileSync('mkfifo', [`${folder}/runs`, `${folder}/end`]);
    writeFileSync(adjustment, own);
    const child = spawn(program, args, { ...options, stdio: 'ignore' });
    writeFileSync(adjustment, before);
    readFileSync(`${folder}/runs`);
    expect(readFileSync(`/proc/${child.pid}/oom_score_adj`, 'latin1').trim()).toBe(its);
    writeFileSync(`${folder}/end`, '\n');
    await once(child, 'close');
  });

  it('is not entered with a file that was exchanged after it was found', async () => {
    const path = bench.path('image');
    writeFileSync(path, 'mine');
    writeFileSync(bench.path('secret'), 'SECRET');
    await using file = await PinnedFile.open(path);
    const command = cagedCommand({
      ...{ program: '/usr/bin/cat', args: ['/dev/fd/3'], files: [file], readOnly: new Set<PinnedFile>() },
      folder: bench.directory,
    });
    renameSync(path, `${path}.away`);
    symlinkSync(bench.path('secret'), path);
    const { status, stdout, stderr } = spawnSync(command.program, command.args, {
      ...command.options,
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 1, stdout: '', stderr: `${path}: it was exchanged\n` });
  });

  it('ends as what it holds ends: with its exit code, or by its signal', async () => {
    expect(await inCage('exit 7')).toMatchObject({ status: 7, signal: null });
    // Process 1 cannot kill itself; its end tells of its child's.
    expect(await inCage("dash -c 'kill -KILL $$'")).toMatchObject({ status: null, signal: 'SIGKILL' });
  });
});

describe('what is in force', () => {
  needs('qemu-storage-daemon', cage).it('is told, with the user that helpers run as', async () => {
    expect(await cageInForce('nobody')).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/^caged: .*user nobody/),
    });
    expect(await cageInForce('no-such-user')).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/; root without/),
    });
  });

  it('is nothing for a program elsewhere, or that is not there, and that is told', async () => {
    bench.fake('exit 1');
    const elsewhere = { ok: false, detail: expect.stringMatching(/^not caged: \S+ is not below \/usr\//) };
    expect(await cageInForce('nobody')).toMatchObject(elsewhere);
    bench.install('', 0o644);
    expect(await cageInForce('nobody')).toMatchObject({ ok: false, detail: expect.stringContaining('is not there') });
  });
});

describe('an image whose path is exchanged', () => {
  needs('qemu-img', 'qemu-storage-daemon').it('right before a helper opens it is the one that was found', async () => {
    const [path, other] = [await bench.qcow2(), await bench.qcow2()];
    bench.fake(`mv ${path} ${path}.away; ln -s ${other} ${path}; exec "$REAL" "$@"`);
    await using image = await openFormatImage(bench.options(path, { chain: { directories: [bench.directory] } }));
    await using disk = nbdDiskOf(image);
    await disk.write(0, SECRET);
    await disk.flush?.();
    expect(readFileSync(`${path}.away`).includes(SECRET)).toBe(true);
    expect(readFileSync(other).includes(SECRET)).toBe(false);
  });

  needs('qemu-img', 'qemu-storage-daemon').it(
    'for another file is not served when its helper starts again',
    async () => {
      const path = await bench.qcow2();
      await using image = await openFormatImage(bench.options(path));
      await using disk = nbdDiskOf(image);
      await disk.write(0, SECRET);
      renameSync(path, `${path}.away`);
      renameSync(await bench.qcow2(), path);
      process.kill(processesWith(path)[0], 'SIGKILL');
      await expect
        .poll(() => bench.events.at(1), { timeout: 8000 })
        .toMatchObject({
          kind: 'refused',
          reason: expect.stringMatching(/not the file that this disk has written to/),
        });
      renameSync(`${path}.away`, path);
      expect(Buffer.from(await disk.read(0, 4096)).equals(SECRET)).toBe(true);
    },
  );
});
