import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { packageRoot } from '../package-root.js';
import { joinEmulatedHost } from '../provider/emulated-host.js';
import { FolderHost } from '../testing/folder-host.js';
import { BlockdProcess, runBlockd } from '../testing/process.js';

vi.setConfig({ testTimeout: 60_000 });

const addon = working('the addon of xen-sys', requireNativeAddon);
const DEADLY_THREAD = fileURLToPath(new URL('src/testing/deadly-thread.mjs', packageRoot));
const SOON = { timeout: 15_000 };

interface ListedDisk {
  readonly connected: boolean;
  readonly held?: { readonly reason: string; readonly since: string };
}

needs(addon).describe('a guest whose disk cannot be served for a while', () => {
  let host: FolderHost;
  let image: string;
  let guest: BlockdProcess;

  beforeEach(async () => {
    host = await FolderHost.start();
    image = host.path('image');
    writeFileSync(image, '');
    truncateSync(image, 32 << 20);
  });
  afterEach(() => host[Symbol.asyncDispose](), 30_000);

  const startGuest = async () => {
    guest = new BlockdProcess([
      'guest',
      image,
      '--dir',
      host.directory,
      '--writable',
      '--load',
      '--seconds',
      '50',
      '--json',
    ]);
    await expect.poll(() => guest.stdout, SOON).toContain('connected');
  };
  /** The guest ends its load, and what it has found is looked at. */
  const endsWell = async () => {
    guest.signal('SIGINT');
    const { code, stdout } = await guest.ended;
    expect(stdout).toMatch(/"errors":0,"wrong":0/);
    expect(code).toBe(0);
  };
  const list = async (): Promise<ListedDisk | undefined> => {
    const { stdout } = await runBlockd('list', '--json', '--socket', host.path('xen-blockd.sock'));
    return (JSON.parse(stdout) as ListedDisk[])[0];
  };

  it('does not keep the service manager from being told: that is when each disk is served or held', async () => {
    const said = 'every disk that was found is served or held';
    const first = await host.daemon();
    await expect.poll(() => first.stderr, SOON).toContain(said);
    await startGuest();
    await host.kill(first);
    const second = await host.daemon();
    await expect.poll(() => second.stderr, SOON).toMatch(new RegExp(`"disks":1,"held":0,"msg":"${said}`));
    expect(second.stderr.indexOf('"serving"')).toBeGreaterThan(-1);
    expect(second.stderr.indexOf('"serving"')).toBeLessThan(second.stderr.indexOf(said));
    await host.kill(second);
    renameSync(image, `${image}.away`);
    const third = await host.daemon();
    await expect.poll(() => third.stderr, SOON).toMatch(new RegExp(`"disks":1,"held":1,"msg":"${said}`));
    renameSync(`${image}.away`, image);
    await expect.poll(() => third.stderr, SOON).toContain('held no more: served again');
    await endsWell();
  });

  it('waits while the image is away, as list, the log and the metrics tell, and goes on when it is back', async () => {
    const metrics = host.path('metrics.sock');
    const first = await host.daemon();
    await startGuest();
    await host.kill(first);
    renameSync(image, `${image}.away`);
    const second = await host.daemon('--metrics', metrics);
    await expect.poll(() => second.stderr, SOON).toContain('held, its guest waits');
    const disk = await list();
    expect(disk).toMatchObject({ connected: false, held: { reason: expect.stringContaining(image) } });
    expect(Date.parse(disk?.held?.since ?? '')).not.toBeNaN();
    const { code, stdout } = await runBlockd('list', '--socket', host.path('xen-blockd.sock'));
    expect([code, stdout]).toEqual([0, expect.stringMatching(/is held since .*: .*image/)]);
    const shown = await runBlockd('show', image, '--socket', host.path('xen-blockd.sock'));
    expect(shown.stdout).toMatch(/^ {2}state +held$/m);
    expect(shown.stdout).toMatch(/^ {2}why +.*image/m);
    expect(shown.stdout).toMatch(/^ {2}remedy +mend that, then: xen-blockd resume qdisk-\d+-51712$/m);
    // A third one finds it as the second did.
    await host.kill(second, 'SIGTERM');
    const third = await host.daemon('--metrics', metrics);
    await expect.poll(() => third.stderr, SOON).toContain('held, its guest waits');
    renameSync(`${image}.away`, image);
    await runBlockd('resume', (await listedName()) ?? '', '--socket', host.path('xen-blockd.sock'));
    await expect.poll(() => third.stderr, SOON).toContain('"adopted":true');
    await expect.poll(async () => (await list())?.held, SOON).toBeUndefined();
    expect(third.stderr).not.toMatch(/"msg":"Clos(ing|ed)"/);
    await endsWell();
  });

  const listedName = async () => {
    const { stdout } = await runBlockd('list', '--json', '--socket', host.path('xen-blockd.sock'));
    return (JSON.parse(stdout) as { device: string }[])[0]?.device;
  };

  it.each(['throw', 'exit', 'memory'])(
    'sees a pause when a thread of the daemon ends (%s): the process ends, and the next one goes on',
    async (way) => {
      const env = {
        DEADLY_THREAD: way,
        NODE_OPTIONS: `--import ${DEADLY_THREAD}${way === 'memory' ? ' --max-old-space-size=64' : ''}`,
      };
      const daemon = await host.daemonIn(env, '--threads', '2');
      await startGuest();
      daemon.signal('SIGUSR2');
      const { code, stderr } = await daemon.ended;
      expect([code, stderr]).toEqual([1, expect.stringContaining('a thread that serves rings has ended')]);
      expect(stderr).not.toMatch(/"msg":"Clos(ing|ed)"/);
      const next = await host.daemon('--threads', '2');
      await expect.poll(() => next.stderr, SOON).toContain('"adopted":true');
      await endsWell();
    },
  );

  it('is found by the next start when one fails, which ends the process though its threads run', async () => {
    const first = await host.daemon();
    await startGuest();
    await host.kill(first);
    const provider = await joinEmulatedHost(host.directory);
    const store = XenstoreClient.open(await provider.connectXenstore());
    await store.remove('domid');
    const began = performance.now();
    const { code, stderr } = await host.starting('--threads', '2').ended;
    expect([code, stderr]).toEqual([69, expect.stringContaining('"domid"')]);
    expect(performance.now() - began).toBeLessThan(15_000);
    await store.write('domid', 0);
    await store.close();
    const next = await host.daemon('--threads', '2');
    await expect.poll(() => next.stderr, SOON).toContain('"adopted":true');
    await endsWell();
  });
});
