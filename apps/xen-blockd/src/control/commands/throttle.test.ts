import type { Blkfront } from '@xenpv/blkfront';
import { QmpClient } from '@xenpv/qmp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceStatus } from '../../status/disks/device-status.js';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

const NO_LIMITS = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };

let daemon: TestDaemon;
let disk: Blkfront;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

async function start(config: Parameters<TestDaemon['start']>[0] = {}): Promise<string> {
  void daemon.start(config);
  await daemon.says('ready');
  const { domid } = await daemon.attach();
  disk = await daemon.host.connectGuest(domid);
  return `qdisk-${domid}-51712`;
}

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));

async function status(...args: string[]): Promise<DeviceStatus> {
  const { stdout } = await blockd(...args, '--json');
  return (JSON.parse(stdout) as DeviceStatus[])[0];
}

describe('xen-blockd throttle', () => {
  it('limits a disk, shows what is in force, and takes it back', async () => {
    const device = await start({ 'disk-limits': 'iops=9000' });
    expect(await status('throttle', device)).toMatchObject({ limits: 'iops=9000', guestLimits: 'none' });
    const { stdout } = await blockd('throttle', device, 'iops=100,iops-burst=5');
    expect(stdout).toContain('iops=100,iops-burst=5');
    const since = performance.now();
    await Promise.all(Array.from({ length: 35 }, () => disk.read(0, 512)));
    expect(performance.now() - since).toBeGreaterThan(290);
    expect(await status('throttle', device, 'default')).toMatchObject({ limits: 'iops=9000' });
    expect(await status('throttle', device, 'none')).toMatchObject({ limits: 'none' });
  });

  it('takes no limit that could not be read back', async () => {
    const device = await start({ 'disk-limits': 'iops=9000' });
    await using client = await QmpClient.connect(daemon.host.path('control'));
    const limit = (values: object) =>
      client.execute('block_set_io_throttle', { device, ...NO_LIMITS, iops: 1e15, ...values });
    for (const values of [{ bps: 1e15 + 1 }, { iops: 2 ** 52 }, { bps: 1, bps_max: 2 ** 52 }])
      await expect(limit(values)).rejects.toThrow('must be within [0, 1000000000000000]');
    await limit({ bps: 1e15, bps_max: 1e15 });
    daemon.stop();
    await daemon.ended();
    void daemon.start({ 'disk-limits': 'iops=9000' });
    await daemon.says('ready');
    const most = '976562500000K';
    const limits = `iops=${most},bandwidth=${most},bandwidth-burst=${most}`;
    await expect.poll(async () => (await status('throttle', device))?.limits).toBe(limits);
  });

  it('limits a guest', async () => {
    const device = await start();
    expect(await status('throttle', device, 'bandwidth=20M', '--guest')).toMatchObject({
      limits: 'none',
      guestLimits: 'bandwidth=20M',
    });
  });

  it('names what is wrong, and where it may be right', async () => {
    const device = await start();
    const wrong = await blockd('throttle', device, 'iops=fast');
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('iops=fast: expected "none", or a list') });
    const nobody = await blockd('throttle', 'qdisk-99-1', 'iops=5');
    expect(nobody.stderr).toContain('there is no disk qdisk-99-1');
    expect(nobody.code).not.toBe(0);
  });
});
