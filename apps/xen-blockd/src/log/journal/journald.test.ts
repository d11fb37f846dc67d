import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { Cleanup } from '../../cleanup.js';
import { askDaemon } from '../../control/ask-daemon.js';
import { Journald, journaldNeed } from '../../testing/journald.js';
import { RunFolder } from '../../testing/run-folder.js';
import { DAEMON_EVENTS, DISK_EVENTS } from './log-events.js';

vi.setConfig({ testTimeout: 90_000, hookTimeout: 30_000 });

const SOON = { timeout: 30_000 };

let cleanup: Cleanup;

beforeEach(() => {
  cleanup = new Cleanup();
});
afterEach(() => cleanup[Symbol.asyncDispose]());

needs(working('the addon of xen-sys', requireNativeAddon), journaldNeed, 'python3').describe(
  "systemd's journal",
  () => {
    needs().it('finds the lines of a disk, of a guest and of a kind', async () => {
      const journald = cleanup.use(await Journald.start());
      const folder = cleanup.use(new RunFolder());
      folder.configure(`metrics = "${folder.path('metrics')}"`);
      const daemon = folder.run([], { under: journald.under });
      const asked = () => askDaemon(folder.control, { command: 'x-query-disks' }).catch(() => undefined);
      await expect.poll(asked, SOON).toEqual([]);
      const domid = await daemon.attach(folder.image);
      const device = `qdisk-${domid}-51712`;

      const serving = `MESSAGE_ID=${DISK_EVENTS['xen-block:device:connected'].id}`;
      await expect.poll(() => journald.find(serving), SOON).toHaveLength(1);
      const [line] = await journald.find(serving);
      expect(line).toMatchObject({
        DEVICE: device,
        GUEST: 'guest',
        PRIORITY: '6',
        SYSLOG_IDENTIFIER: 'xen-blockd',
        SYSLOG_FACILITY: '3',
        _TRANSPORT: 'journal',
        _PID: `${daemon.child.pid}`,
        XEN_BLOCKD_EVENT: 'xen-block:device:connected',
        XEN_BLOCKD_QUEUES: '1',
      });
      expect(line.MESSAGE).toMatch(new RegExp(`^serving device=${device} .*guest=guest`));
      expect((await journald.find(`DEVICE=${device}`)).length).toBeGreaterThanOrEqual(3);
      expect(await journald.find('GUEST=guest', serving)).toHaveLength(1);
      expect(await journald.find(`MESSAGE_ID=${DAEMON_EVENTS.ready.id}`)).toHaveLength(1);

      daemon.signal('SIGTERM');
      expect((await daemon.ended).code).toBe(0);
      await expect.poll(() => journald.find(`MESSAGE_ID=${DAEMON_EVENTS.stopping.id}`), SOON).toHaveLength(1);
      // Nothing came by standard error.
      expect(await journald.find('_TRANSPORT=stdout', 'SYSLOG_IDENTIFIER=xen-blockd')).toEqual([]);
    });

    needs().it('that ends takes no disk with it', async () => {
      const journald = cleanup.use(await Journald.start());
      const folder = cleanup.use(new RunFolder());
      folder.configure(`metrics = "${folder.path('metrics')}"`);
      const daemon = folder.run(['--log-level', 'debug'], { under: journald.under });
      const asked = () => askDaemon(folder.control, { command: 'x-query-disks' }).catch(() => undefined);
      await expect.poll(asked, SOON).toEqual([]);
      const first = await daemon.attach(folder.image);
      await journald[Symbol.asyncDispose]();
      await daemon.inXen(async ({ host }, target) => {
        const { domid } = await host.createDomain({ name: 'talk' });
        await host.toolstack.attachDisk(domid, { vdev: 'xvda', target, readOnly: true });
        await host.toolstack.detachDisk(domid, 'xvda');
      }, folder.path('image'));
      expect(await daemon.reads(first)).toBe(true);
      await expect.poll(() => folder.metric('log_lines_lost_total'), SOON).toBeGreaterThan(0);
      daemon.signal('SIGTERM');
      expect((await daemon.ended).code).toBe(0);
    });
  },
);
