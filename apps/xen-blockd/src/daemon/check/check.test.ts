import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { qmpVersion } from '../../control/qemu-version.js';
import { packageRoot } from '../../package-root.js';
import { TestDaemon } from '../../testing/daemon.js';
import { EmbeddedHost } from '../../testing/host.js';
import { runBlockd } from '../../testing/process.js';
import { checkCompetitors } from './competitors.js';
import { checkConfiguration } from './configuration.js';
import type { Finding } from './finding.js';
import { checkHelperDrivers } from './helper-drivers.js';
import { checkHotplugScript } from './hotplug-script.js';
import { checkIoUring } from './io-uring.js';
import { checkJournal } from './journal.js';
import { checkLimits } from './limits.js';
import { checkQuotas } from './quotas.js';
import { checkRunning } from './running.js';
import { checkUnit } from './unit.js';

let root: string;
let children: ChildProcess[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'check-test-'));
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(root, { recursive: true });
});

/** A file below the root that is looked at. */
function put(path: string, text = '', mode = 0o644): string {
  const whole = join(root, path);
  mkdirSync(dirname(whole), { recursive: true });
  writeFileSync(whole, text);
  chmodSync(whole, mode);
  return whole;
}

/** A process with this command line. */
async function running(program: string, ...words: string[]): Promise<number> {
  const child = spawn('sh', ['-c', 'echo; cat', ...words], { argv0: program, stdio: 'pipe' });
  children.push(child);
  await once(child.stdout, 'data');
  return child.pid as number;
}

const named = (findings: readonly Finding[], name: string) => findings.find((finding) => finding.name === name);

describe('check', () => {
  it('sees xen-blkback that is loaded, or would be, when type vbd is served', () => {
    const found = () => named(checkCompetitors(['vbd'], 0, root), 'xen-blkback');
    expect(found()).toMatchObject({
      ok: false,
      needed: false,
      remedy: expect.stringContaining('blacklist xen-blkback'),
    });
    put('etc/modprobe.d/other.conf', '# blacklist xen-blkback\nblacklist xen_netback\n');
    expect(found()).toMatchObject({ ok: false });
    put('etc/modprobe.d/xen-blockd.conf', 'blacklist xen-blkback\n');
    expect(found()).toEqual({ name: 'xen-blkback', ok: true, needed: false, detail: 'not loaded' });
    put('sys/module/xen_blkback/refcnt');
    expect(found()).toMatchObject({
      ok: false,
      needed: true,
      remedy: expect.stringContaining('modprobe -r xen-blkback'),
    });
    expect(named(checkCompetitors(['qdisk'], 0, root), 'xen-blkback')).toMatchObject({ ok: true });
  });

  needs('Linux').it('sees tapback, xl devd and a QEMU that serve what the daemon does', async () => {
    const tapback = await running('/usr/bin/tapback');
    const devd = await running('/usr/sbin/xl', 'xl', 'devd', '-F');
    const qemu = await running('/usr/lib/xen/bin/qemu-system-i386', '-xen-domid', '5');
    const findings = checkCompetitors(['qdisk', 'vbd3'], 0, root);
    expect(named(findings, 'tapback')).toMatchObject({
      ok: false,
      needed: true,
      detail: expect.stringContaining(`pid ${tapback} `),
      remedy: expect.stringContaining(`kill ${tapback}`),
    });
    expect(named(findings, 'xl devd')).toMatchObject({
      ok: false,
      needed: true,
      detail: expect.stringContaining(`pid ${devd} `),
      remedy: 'systemctl disable --now xendriverdomain',
    });
    expect(named(findings, 'QEMU')).toMatchObject({
      ok: false,
      needed: false,
      detail: expect.stringContaining(`pid ${qemu} `),
      remedy: expect.stringContaining('device_model_override'),
    });
    expect(
      checkCompetitors(['vbd'], 0, root)
        .slice(1)
        .every(({ ok }) => ok),
    ).toBe(true);
    expect(named(checkCompetitors(['qdisk'], 3, root), 'QEMU')).toMatchObject({ ok: true });
  });

  it('sees a hotplug script that is missing, may not be run, or is another version', () => {
    const shipped = fileURLToPath(new URL('hotplug/block-xen-blockd', packageRoot));
    const found = () => checkHotplugScript(['vbd3'], root);
    expect(found()).toMatchObject({
      ok: false,
      needed: true,
      remedy: `install -m 755 ${shipped} ${join(root, 'etc/xen/scripts/block-xen-blockd')}`,
    });
    const path = put('etc/xen/scripts/block-xen-blockd', '#!/bin/sh\n', 0o755);
    expect(found()).toMatchObject({ ok: false, needed: false, detail: expect.stringContaining('another version') });
    copyFileSync(shipped, path);
    chmodSync(path, 0o755);
    expect(found()).toMatchObject({ ok: true });
    expect(checkHotplugScript(['vbd3'], root, '/nonexistent')).toMatchObject({ ok: true });
    expect(checkHotplugScript(['qdisk'], '/nonexistent')).toMatchObject({ ok: true });
    chmodSync(path, 0o644);
    expect(found()).toMatchObject({ ok: false, needed: true, remedy: `chmod 755 ${path}` });
  });

  it('sees where io_uring does not work, and whether that matters', async () => {
    const fails = () => Promise.reject(new Error('io_uring does not work here: EPERM'));
    put('proc/sys/kernel/io_uring_disabled', '2\n');
    expect(await checkIoUring('auto', fails, root)).toMatchObject({
      ok: false,
      needed: false,
      detail: expect.stringContaining('EPERM'),
      remedy: expect.stringContaining('sysctl -w kernel.io_uring_disabled=0'),
    });
    put('proc/sys/kernel/io_uring_disabled', '0\n');
    expect(await checkIoUring('io_uring', fails, root)).toMatchObject({
      ok: false,
      needed: true,
      remedy: expect.stringContaining('engine = "threads"'),
    });
    expect(await checkIoUring('threads', fails, root)).toMatchObject({ ok: true });
    expect(await checkIoUring('auto')).toMatchObject({ name: 'io_uring', needed: false });
  });

  needs('Linux', 'setpriv').it('sees limits of a process that are too small', async () => {
    const limited = ['sh', '-c', 'ulimit -l 64; ulimit -n 256; echo; cat'];
    // Memory that root locks is not counted.
    const without = process.geteuid?.() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : [];
    const [program, ...words] = [...without, ...limited];
    const child = spawn(program, words, { stdio: 'pipe' });
    children.push(child);
    await once(child.stdout, 'data');
    const [memory, files] = checkLimits(child.pid as number, 3);
    expect(memory).toMatchObject({
      name: 'locked memory',
      ok: false,
      detail: expect.stringContaining('may lock 65536 bytes'),
      remedy: expect.stringContaining('LimitMEMLOCK=infinity'),
    });
    expect(files).toMatchObject({
      name: 'open files',
      ok: false,
      remedy: expect.stringContaining('LimitNOFILE=65536'),
    });
    put(
      'proc/1/limits',
      'Max locked memory         unlimited            unlimited            bytes\nMax open files            65536                65536                files\n',
    );
    expect(checkLimits(1, 64, root).map(({ ok }) => ok)).toEqual([true, true]);
    expect(checkLimits(2, 1, root)).toEqual([]);
  });

  it('sees a journal folder that is none, others may write to, or is on a disk, and makes none', async () => {
    expect(await checkJournal(false)).toMatchObject({
      ok: false,
      remedy: expect.stringContaining('journal-directory'),
    });
    const folder = join(root, 'journal');
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    expect(await checkJournal(folder)).toMatchObject({
      ok: false,
      detail: `${folder}: others may write there`,
      remedy: 'chmod 700 it',
    });
    const absent = join('/dev/shm', `check-test-${process.pid}`, 'journal');
    expect(await checkJournal(absent)).toMatchObject({
      ok: true,
      detail: `${absent} is in memory, and made by the daemon`,
    });
    const onDisk = join(fileURLToPath(packageRoot), 'none', 'journal');
    expect(await checkJournal(onDisk)).toMatchObject({
      ok: false,
      detail: expect.stringContaining('it is on a disk'),
      remedy: 'use a folder below /run',
    });
  });

  it('sees a helper that is missing, does not start, or lacks drivers', async () => {
    expect(await checkHelperDrivers(put('none'))).toMatchObject({
      ok: false,
      detail: expect.stringContaining('does not start'),
    });
    const broken = put(
      'broken',
      '#!/bin/sh\necho "error while loading shared libraries: libaio.so.1" >&2\nexit 127\n',
      0o755,
    );
    expect(await checkHelperDrivers(broken)).toMatchObject({
      ok: false,
      detail: expect.stringContaining('libaio.so.1'),
      remedy: expect.stringContaining('apt install qemu-system-common'),
    });
    const poor = put(
      'poor',
      `#!/bin/sh
case $2 in
  *=vhdx,* | *=vpc,*) echo "qemu-storage-daemon: Parameter 'driver' does not accept value 'vhdx'" >&2 ;;
  *) echo "qemu-storage-daemon: Cannot find device='none' nor node-name='none'" >&2 ;;
esac
exit 1
`,
      0o755,
    );
    expect(await checkHelperDrivers(poor)).toMatchObject({
      ok: false,
      detail: `${poor} has no driver for vhd, vhdx: such images are refused`,
    });
  });

  needs('qemu-storage-daemon').it('finds the drivers of a real helper', async () => {
    expect(await checkHelperDrivers()).toMatchObject({ ok: true, detail: expect.stringContaining('raw, qcow2') });
  });

  it('sees a driver domain whose disks come near to the quota of xenstored', async () => {
    await using host = await EmbeddedHost.create();
    const { domid, provider } = await host.host.createDomain({ name: 'storage' });
    const store = XenstoreClient.open(await provider.connectXenstore());
    expect(await checkQuotas(store, domid, ['qdisk'])).toMatchObject({ ok: true });
    for (let guest = 1; guest <= 27; guest++) {
      const path = `/local/domain/${domid}/backend/qdisk/${guest}/51712`;
      await host.store.write(path, '');
    }
    expect(await checkQuotas(host.store, domid, ['qdisk', 'vbd'])).toMatchObject({
      ok: false,
      detail: expect.stringContaining('27 disks take about 810 nodes'),
      remedy: expect.stringContaining('--quota'),
    });
    expect(await checkQuotas(host.store, 0, ['qdisk'])).toMatchObject({ ok: true, detail: 'dom0 has none' });
    await store.close();
  });

  it('sees a unit that is not installed, not enabled, failed, or changed on disk', async () => {
    expect(await checkUnit(root)).toMatchObject([
      { ok: true, detail: expect.stringContaining('systemd does not run here') },
    ]);
    put('run/systemd/system/x');
    const shows = (...lines: string[]) => put('systemctl', `#!/bin/sh\ncat <<END\n${lines.join('\n')}\nEND\n`, 0o755);
    expect(await checkUnit(root, shows('LoadState=not-found'))).toMatchObject([
      { ok: false, remedy: expect.stringContaining('install the unit') },
    ]);
    const bad = shows(
      'LoadState=loaded',
      'UnitFileState=disabled',
      'ActiveState=failed',
      'SubState=failed',
      'NeedDaemonReload=yes',
      'DropInPaths=',
      'MainPID=0',
    );
    const findings = await checkUnit(root, bad);
    expect(findings).toMatchObject([
      {
        ok: false,
        detail: 'xen-blockd.service is failed (failed)',
        remedy: 'journalctl -u xen-blockd.service says why',
      },
      { ok: false, name: 'service at boot', remedy: 'systemctl enable xen-blockd.service' },
      { ok: false, name: 'service file', remedy: expect.stringContaining('daemon-reload') },
      { ok: true, name: 'hardening', detail: expect.stringContaining('hardened.conf closes more') },
    ]);
    const well = shows(
      'LoadState=loaded',
      'UnitFileState=enabled',
      'ActiveState=active',
      'SubState=running',
      'NeedDaemonReload=no',
      'DropInPaths=/etc/systemd/system/xen-blockd.service.d/hardened.conf',
      'MainPID=7',
    );
    expect((await checkUnit(root, well)).map(({ detail }) => detail)).toEqual([
      'xen-blockd.service runs, pid 7',
      'hardened.conf is in force',
    ]);
    expect(await checkUnit(root, put('systemctl', '#!/bin/sh\necho no bus >&2\nexit 1\n', 0o755))).toMatchObject([
      { ok: false, detail: 'systemctl show xen-blockd.service: no bus' },
    ]);
  });

  it('sees a second daemon, one that does not answer, and one of another version', async () => {
    const [several, silent] = await checkRunning([7, 8], join(root, 'control'));
    expect(several).toMatchObject({
      ok: false,
      detail: '2 run: pid 7, 8',
      remedy: expect.stringContaining('stop all but one'),
    });
    expect(silent).toMatchObject({
      ok: false,
      detail: expect.stringContaining('no daemon answers there (ENOENT)'),
      remedy: expect.any(String),
    });
    await using daemon = await TestDaemon.create();
    daemon.start();
    await daemon.says('ready');
    const found = await checkRunning([process.pid], daemon.host.path('control'));
    expect(found).toMatchObject([
      { ok: true, detail: `one, pid ${process.pid}` },
      { ok: true, name: 'control socket' },
    ]);
    const status = { version: 'xen-blockd 0.0.0-older', pid: 7 };
    const commands = { 'x-query-daemon': qmpCommand({ members: {}, returns: 'any', run: () => status }) };
    await using older = new QmpServer({ commands, version: qmpVersion() });
    await once(older.listener.listen(join(root, 'older')), 'listening');
    const [, other] = await checkRunning([7], join(root, 'older'));
    expect(other).toMatchObject({ ok: false, remedy: expect.stringContaining('systemctl restart xen-blockd') });
    expect(other.detail).toMatch(
      /^the daemon that runs, pid 7, is xen-blockd 0\.0\.0-older; installed is xen-blockd \d/,
    );
    expect(await checkRunning([], daemon.host.path('control'))).toMatchObject([{ ok: true, detail: 'none' }]);
  });

  it('tells all problems of the configuration at once, each with what is allowed', () => {
    const path = put('xen-blockd.toml', 'engin = "auto"\nthreads = 1000\njournal-directory = "run"\n');
    const { findings, config } = checkConfiguration(path);
    expect(findings.map(({ ok, needed }) => [ok, needed])).toEqual(Array(3).fill([false, true]));
    expect(findings.map(({ detail }) => detail.slice(path.length, path.length + 5))).toEqual([
      ':1:1:',
      ':2:1:',
      ':3:1:',
    ]);
    expect(findings.map(({ remedy }) => remedy)).toEqual([
      'did you mean engine?',
      'allowed: a whole number from 0 to 64',
      'allowed: an absolute path, or false',
    ]);
    // The rest is looked at by the defaults.
    expect(config.types).toEqual(['qdisk']);
    expect(checkConfiguration(join(root, 'none')).findings).toMatchObject([{ ok: true }]);
  });

  it('has a remedy for all that is not as it should be', async () => {
    const { code, stdout } = await runBlockd('check', '--json');
    const findings: Finding[] = JSON.parse(stdout);
    expect(findings.filter(({ ok, remedy }) => !ok && remedy === undefined)).toEqual([]);
    expect(findings.some(({ needed, ok }) => needed && !ok)).toBe(code !== 0);
  });
});
