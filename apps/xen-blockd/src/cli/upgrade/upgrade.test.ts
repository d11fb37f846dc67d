import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost } from '@xenpv/emulator';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Cleanup } from '../../cleanup.js';
import { packageRoot } from '../../package-root.js';
import { FolderHost } from '../../testing/folder-host.js';
import { BlockdProcess, PROGRAM } from '../../testing/process.js';
import type { UpgradeOptions } from './options.js';
import { upgrade } from './restart.js';

const addon = working('the addon of xen-sys', requireNativeAddon);
// Programs start, with all that else runs on the machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 30_000 });

needs(addon).describe('upgrade', () => {
  let host: FolderHost;
  let cleanup: Cleanup;

  beforeEach(async () => {
    cleanup = new Cleanup();
    host = await FolderHost.start();
    mkdirSync(host.path('bin'));
    vi.stubEnv('PATH', `${host.path('bin')}:${process.env.PATH}`);
    writeFileSync(host.path('config'), `journal-directory = "${host.path('journal')}"\nthreads = 0\n`);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await cleanup[Symbol.asyncDispose]();
    const pid = Number(readFileSync(host.path('pid'), 'utf8'));
    if (pid > 0) process.kill(pid, 'SIGTERM');
    await host[Symbol.asyncDispose]();
  });

  /** In the place of systemd's: restarts the daemon whose number is in a file. */
  function systemctl(restart: string): void {
    const script = `#!/bin/sh
case $1 in
  show) printf 'LoadState=loaded\\nMainPID=%s\\nNeedDaemonReload=no\\n' "$(cat ${host.path('pid')})" ;;
  restart) ${restart} ;;
esac
`;
    writeFileSync(host.path('bin/systemctl'), script);
    chmodSync(host.path('bin/systemctl'), 0o755);
  }

  /** The command, in this process: it is a client of the daemon. */
  async function blockd(options: Partial<UpgradeOptions> = {}): Promise<{ code: number; stdout: string }> {
    let stdout = '';
    const written = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += text;
      return true;
    });
    try {
      return { code: await upgrade({ socket: host.path('control'), ...options }), stdout };
    } finally {
      written.mockRestore();
    }
  }

  it('knows which daemon runs when another package has been installed under it', async () => {
    const installed = host.path('installed');
    const manifest = join(installed, 'package.json');
    const install = (version: string) => writeFileSync(manifest, JSON.stringify({ type: 'module', version }));
    cpSync(dirname(PROGRAM), join(installed, 'dist'), { recursive: true });
    symlinkSync(fileURLToPath(new URL('node_modules', packageRoot)), join(installed, 'node_modules'));
    install('0.0.1');
    const args = [
      '--emulator',
      host.directory,
      '--config',
      host.path('config'),
      '--control-socket',
      host.path('control'),
    ];
    const daemon = new BlockdProcess(['run', ...args], {}, { program: join(installed, 'dist/main.js') });
    writeFileSync(host.path('pid'), `${daemon.child.pid}`);
    await daemon.says('ready');
    install('0.0.2');
    systemctl('exit 1');
    const { code, stdout } = await blockd({ check: true, json: true });
    expect([code, JSON.parse(stdout)]).toMatchObject([0, { from: 'xen-blockd 0.0.1', against: [], restarted: false }]);
  });

  it('restarts the daemon under its guest when that is safe, and tells the pause', async () => {
    const options = ['--config', host.path('config'), '--control-socket', host.path('control')];
    const old = await host.daemon(...options);
    writeFileSync(host.path('pid'), `${old.child.pid}`);
    const run = [process.execPath, PROGRAM, 'run', '--emulator', host.directory, ...options].join(' ');
    systemctl(`kill $(cat ${host.path('pid')}); while kill -0 $(cat ${host.path('pid')}) 2>/dev/null; do sleep 0.05; done
    ${run} >${host.path('log')} 2>&1 & echo $! >${host.path('pid')}`);
    const remote = cleanup.use(await RemoteHost.connect(host.directory));
    const { domid } = await remote.createDomain({ name: 'guest', transient: true });
    writeFileSync(host.path('image'), '');
    truncateSync(host.path('image'), 1 << 20);
    await remote.attachDisk(domid, { vdev: 'xvda', target: host.path('image'), backendType: 'qdisk', readOnly: false });
    const provider = await joinHost(host.directory, { domid });
    const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    const disk = cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 500 }));
    await disk.write(4096, Buffer.alloc(4096, 'before'));

    const nothing = await blockd();
    expect([nothing.code, nothing.stdout]).toEqual([0, expect.stringMatching(/runs already; --force restarts it/)]);
    expect((await blockd({ force: true, check: true })).code).toBe(0);
    writeFileSync(host.path('pid'), '1');
    const foreign = await blockd({ force: true });
    expect([foreign.code, foreign.stdout]).toEqual([
      1,
      expect.stringMatching(/^not restarted: .*\n {2}the daemon that answers, pid \d+, is not that of/),
    ]);
    writeFileSync(host.path('pid'), `${old.child.pid}`);
    writeFileSync(host.path('config'), 'threds = 0\n');
    const wrong = await blockd({ force: true });
    expect([wrong.code, wrong.stdout]).toEqual([
      1,
      expect.stringMatching(/configuration: .*threds.*did you mean threads/),
    ]);
    writeFileSync(host.path('config'), `journal-directory = "${host.path('journal')}"\nthreads = 0\n`);

    const { code, stdout } = await blockd({ force: true, json: true });
    const report = JSON.parse(stdout);
    expect([code, report]).toMatchObject([
      0,
      { restarted: true, against: [], missing: [], served: [expect.stringMatching(/^qdisk-\d+-51712$/)] },
    ]);
    expect(report.pause).toBeGreaterThan(0);
    expect(Number(readFileSync(host.path('pid'), 'utf8'))).not.toBe(old.child.pid);
    expect(Buffer.from(await disk.read(4096, 512)).toString()).toMatch(/^before/);
    await disk.write(0, Buffer.alloc(512, 'after'));
    await disk.close();

    // A disk that is taken away while the daemon is away is not waited for.
    const again = cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 500 }));
    const pidFile = host.path('pid');
    const backend = `/local/domain/0/backend/qdisk/${domid}/51712`;
    const xenstore = cleanup.use(XenstoreClient.open(await (await joinHost(host.directory)).connectXenstore()));
    systemctl(`kill $(cat ${pidFile}); while kill -0 $(cat ${pidFile}) 2>/dev/null; do sleep 0.05; done
    while [ ! -e ${host.path('detached')} ]; do sleep 0.05; done
    ${run} >>${host.path('log')} 2>&1 & echo $! >${pidFile}`);
    const detached = blockd({ force: true, json: true });
    await expect.poll(() => isAlive(Number(readFileSync(pidFile, 'utf8'))), { timeout: 20_000 }).toBe(false);
    await xenstore.remove(backend);
    await xenstore.remove(`/local/domain/${domid}/device/vbd/51712`);
    writeFileSync(host.path('detached'), '');
    const left = await detached;
    expect([left.code, JSON.parse(left.stdout)]).toMatchObject([
      0,
      { restarted: true, served: [], missing: [], gone: [`qdisk-${domid}-51712`] },
    ]);
    await again.close();

    systemctl('echo "Job for xen-blockd.service failed." >&2; exit 1');
    await expect(blockd({ force: true })).rejects.toThrow(/systemctl restart .*: Job for .* failed\.; see journalctl/);
  });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
