import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost, type XlDisk } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Cleanup } from '../cleanup.js';
import { cageProblem } from '../images/storage-daemon/cage.js';
import { packageRoot } from '../package-root.js';
import { FolderHost } from '../testing/folder-host.js';
import { type BlockdProcess, runBlockd } from '../testing/process.js';
import { processesWith } from '../testing/storage-helpers.js';
import type { Finding } from './check/finding.js';

const FOLDER = fileURLToPath(new URL('systemd/', packageRoot));
const UNIT = join(FOLDER, 'xen-blockd.service');
const HARDENED = join(FOLDER, 'hardened.conf');
const SIZE = 1 << 20;

type XlTarget = Omit<XlDisk, 'vdev'>;

const addon = working('the addon of xen-sys', requireNativeAddon);
const problem = await cageProblem();
const cage = { name: 'namespaces', met: () => problem === undefined };
const blockDevices = working('loop devices', () => execFileSync('losetup', ['--find'], { stdio: 'ignore' }));

/** The values of a setting, as systemd takes them: an empty one clears those before it. */
function setting(name: string, ...files: string[]): string[] {
  const lines = files.flatMap((file) => readFileSync(file, 'utf8').split('\n'));
  let values: string[] = [];
  for (const line of lines) {
    if (!line.startsWith(`${name}=`)) continue;
    const value = line.slice(name.length + 1);
    values = value === '' ? [] : [...values, ...value.split(' ')];
  }
  return values;
}

let cleanup: Cleanup;
beforeEach(() => {
  cleanup = new Cleanup();
});
afterEach(() => cleanup[Symbol.asyncDispose]());

needs('systemd-analyze').describe('systemd says of the unit', () => {
  function analyze(...dropIns: string[]): string {
    const root = mkdtempSync(join(tmpdir(), 'unit-test-'));
    cleanup.defer(() => rmSync(root, { recursive: true }));
    const folder = join(root, 'etc/systemd/system');
    mkdirSync(join(folder, 'xen-blockd.service.d'), { recursive: true });
    copyFileSync(UNIT, join(folder, 'xen-blockd.service'));
    for (const path of dropIns) copyFileSync(path, join(folder, 'xen-blockd.service.d', 'hardened.conf'));
    const args = ['security', '--offline=true', `--root=${root}`, '--no-pager', 'xen-blockd.service'];
    return execFileSync('systemd-analyze', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  }
  const exposure = (text: string) => Number(/Overall exposure level for xen-blockd\.service: (\S+)/.exec(text)?.[1]);

  it('no more of the machine is open to it than serving any image takes', () => {
    expect(exposure(analyze())).toBeLessThanOrEqual(3.9);
  });

  it('with the drop-in for images in one directory, little is open to it', () => {
    expect(exposure(analyze(HARDENED))).toBeLessThanOrEqual(2);
  });
});

const machine = needs(addon, cage, blockDevices, 'losetup', 'qemu-img', 'qemu-storage-daemon', 'setpriv');

machine.describe('with its capabilities and no others, a daemon serves', () => {
  const kinds: Record<string, () => XlTarget | Promise<XlTarget>> = {
    'a raw file': () => ({ target: file() }),
    'a file of another user': () => ({ target: ofAnotherUser(file()) }),
    'a block device': () => ({ target: blockDevice() }),
    'a qcow2 image with a backing file': () => ({ target: qcow2('tree.qcow2'), format: 'qcow2' }),
    'a qcow2 image of another user': () => ({ target: ofAnotherUser(qcow2('other.qcow2')), format: 'qcow2' }),
    'an NBD server': nbdServer,
  };
  const ofRoot = Object.keys(kinds).filter((kind) => !kind.endsWith('another user'));

  let host: FolderHost;
  beforeEach(async () => {
    host = cleanup.use(await FolderHost.start());
  });

  it.each([
    ['the unit', { served: Object.keys(kinds), files: [UNIT], user: 'nobody', uid: 65534 }],
    ['the unit and its drop-in what is root’s own', { served: ofRoot, files: [UNIT, HARDENED], user: 'root', uid: 0 }],
  ])('of %s', async (_, { served, files, user, uid }) => {
    writeFileSync(host.path('config'), `helper-user = "${user}"\n`);
    const names = setting('CapabilityBoundingSet', ...files).map((name) => name.replace(/^CAP_/, '').toLowerCase());
    const sets = ['-all', ...names.map((name) => `+${name}`)].join(',');
    const under = ['setpriv', `--bounding-set=${sets}`, '--inh-caps=-all', '--no-new-privs', '--'];
    const daemon = await host.daemonUnder(under, '--config', host.path('config'));
    await Promise.all(served.map(async (kind) => writesAndReads(kind, await kinds[kind]())));
    await checkTells(daemon, { names, uid });
    expect(await backsUp('tree.qcow2')).toMatchObject({ code: 0 });
    await host.kill(daemon, 'SIGTERM');
    expect(processesWith(host.path('tree.qcow2'))).toEqual([]);
    expect(daemon.stderr).not.toMatch(/not caged|"level":[56]0/);
  });

  it.each<[string, Partial<Record<'served' | 'isCaged' | 'isLeft', boolean>>]>([
    ['CAP_SYS_ADMIN', { isCaged: false }],
    ['CAP_SYS_CHROOT', { isCaged: false }],
    ['CAP_SETUID', { served: false }],
    ['CAP_SETGID', { served: false }],
    ['CAP_SETPCAP', { isCaged: false }],
    ['CAP_DAC_OVERRIDE', { served: false }],
    ['CAP_KILL', { isLeft: true }],
  ])('each is needed: without %s the helper of another user’s image is not as it must be', async (missing, wrong) => {
    writeFileSync(host.path('config'), 'helper-user = "nobody"\n');
    const daemon = await host.daemonUnder(underAll(UNIT, missing), '--config', host.path('config'));
    const kind = 'a qcow2 image of another user';
    const served = await writesAndReads(kind, await kinds[kind](), AbortSignal.timeout(30_000)).then(
      () => true,
      () => false,
    );
    await host.kill(daemon, 'SIGTERM');
    const left = processesWith(host.path('other.qcow2'));
    cleanup.defer(() => {
      for (const pid of left) process.kill(pid, 'SIGKILL');
    });
    const isCaged = !daemon.stderr.includes('not caged');
    expect({ served, isCaged, isLeft: left.length > 0 }).toMatchObject(wrong);
  });

  /** What starts a daemon with the capabilities of unit files, without one of them. */
  function underAll(unit: string, missing: string): string[] {
    const names = setting('CapabilityBoundingSet', unit).filter((name) => name !== missing);
    const sets = ['-all', ...names.map((name) => `+${name.replace(/^CAP_/, '').toLowerCase()}`)].join(',');
    return ['setpriv', `--bounding-set=${sets}`, '--inh-caps=-all', '--no-new-privs', '--'];
  }

  /** That the daemon has these capabilities, and its storage helper none but that for files of others. */
  async function checkTells(daemon: BlockdProcess, { names, uid }: { names: string[]; uid: number }): Promise<void> {
    const findings: Finding[] = JSON.parse((await runBlockd('check', '--json')).stdout);
    const found = (pid?: number) => findings.find(({ privileges }) => privileges?.pid === pid);
    const privileges = { uid: 0, capabilities: expect.anything(), noNewPrivileges: true };
    const ofDaemon = found(daemon.child.pid);
    expect(ofDaemon).toMatchObject({ name: 'daemon', needed: false, privileges });
    expect([...(ofDaemon?.privileges?.capabilities ?? [])].sort()).toEqual(names.sort());
    expect(ofDaemon?.detail).not.toContain('capabilities that it does not use');
    const [helper] = processesWith(host.path('tree.qcow2'));
    const capabilities = uid === 0 ? [] : ['dac_override'];
    const ofHelper = { pid: helper, uid, capabilities, noNewPrivileges: true, noCoreDumps: true };
    expect(found(helper)).toMatchObject({ name: 'running helper', privileges: ofHelper });
  }

  /** Of an image that a guest has. */
  async function backsUp(name: string) {
    const blockd = (...args: string[]) => runBlockd(...args, '--socket', join(host.directory, 'xen-blockd.sock'));
    const listed = JSON.parse((await blockd('list', '--json')).stdout) as { device: string; target: string }[];
    const disk = listed.find(({ target }) => target.endsWith(name));
    return blockd('backup', disk?.device ?? 'none', host.path('backup.qcow2'));
  }

  async function writesAndReads(kind: string, disk: XlTarget, signal?: AbortSignal): Promise<void> {
    const remote = cleanup.use(await RemoteHost.connect(host.directory));
    const { domid } = await remote.createDomain({ name: 'guest', transient: true });
    await remote.attachDisk(domid, { vdev: 'xvda', ...disk });
    const provider = await joinHost(host.directory, { domid });
    const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    const blkfront = cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 50, signal }));
    await blkfront.write(4096, Buffer.alloc(4096, kind));
    await blkfront.flush();
    await blkfront.discard(8192, 4096);
    expect(Buffer.from(await blkfront.read(4096, 4096)).equals(Buffer.alloc(4096, kind)), kind).toBe(true);
  }

  let files = 0;
  function file(): string {
    const path = host.path(`${files++}`);
    writeFileSync(path, '');
    truncateSync(path, SIZE);
    return path;
  }

  function ofAnotherUser(path: string): string {
    chownSync(path, 65534, 65534);
    chmodSync(path, 0o600);
    return path;
  }

  function blockDevice(): string {
    const device = execFileSync('losetup', ['--find', '--show', file()], { encoding: 'utf8' }).trim();
    cleanup.defer(() => execFileSync('losetup', ['--detach', device]));
    return device;
  }

  function qcow2(name: string): string {
    const path = host.path(name);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', file(), path]);
    return path;
  }

  async function nbdServer(): Promise<XlTarget> {
    const [socket, ready] = [host.path('nbd'), host.path('nbd.pid')];
    const server = spawn('qemu-storage-daemon', [
      ...['--blockdev', JSON.stringify({ driver: 'file', 'node-name': 'disk', filename: file(), discard: 'unmap' })],
      ...['--nbd-server', `addr.type=unix,addr.path=${socket}`],
      ...['--export', 'nbd,id=disk,node-name=disk,name=disk,writable=on'],
      ...['--pidfile', ready],
    ]);
    cleanup.defer(() => server.kill());
    await expect.poll(() => existsSync(ready), { timeout: 10_000 }).toBe(true);
    return { target: `nbd+unix:///disk?socket=${socket}` };
  }
});
