import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));
const states = async () => {
  const { stdout } = await blockd('list', '--state', 'paused', '--json');
  return JSON.parse(stdout) as { statistics: { inFlight: number; read: { operations: number } } }[];
};

describe('pause', () => {
  it('has the disk take nothing, twice, until unpause, twice', async () => {
    const { domid } = await daemon.attach('web1');
    const guest = await daemon.host.connectGuest(domid);
    expect(await blockd('pause', 'web1:xvda')).toMatchObject({ code: 0, stderr: '' });
    const read = guest.read(0, 4096);
    const again = await blockd('pause', 'web1:xvda');
    expect([again.code, again.stdout]).toEqual([0, expect.stringMatching(/ paused .* somebody has paused it$/m)]);
    expect(await states()).toMatchObject([{ statistics: { inFlight: 0, read: { operations: 0 } } }]);
    const { stdout } = await blockd('show', 'web1:xvda');
    expect(stdout).toMatch(/^ {2}remedy +xen-blockd unpause qdisk-\d+-51712$/m);
    // It is what somebody wanted.
    expect((await blockd('status')).code).toBe(0);
    expect((await blockd('unpause', 'web1:xvda')).code).toBe(0);
    await read;
    expect((await blockd('unpause', 'web1:xvda')).code).toBe(0);
    expect(await states()).toEqual([]);
    await guest.read(0, 4096);
  });

  it('outlasts the daemon, and a disk that waits for its guest', async () => {
    await daemon.attach('web1');
    expect((await blockd('pause', 'web1:xvda', '--wait', '0')).code).toBe(0);
    daemon.stop();
    await daemon.ended();
    daemon.start();
    await daemon.says('ready');
    await expect.poll(async () => (await states()).length).toBe(1);
    expect((await blockd('unpause', 'web1:xvda')).code).toBe(0);
  });

  it('of a disk that is not there is refused', async () => {
    for (const name of ['pause', 'unpause']) {
      const { code, stderr } = await blockd(name, 'web9:xvda');
      expect([code, stderr]).toEqual([1, expect.stringContaining('there is no disk web9:xvda; there are no disks')]);
    }
  });
});
