import { truncateSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { askDaemon } from '../ask-daemon.js';

const MIB = 1 << 20;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

it('an image that shrank is told, and its guest only when that disk may shrink', async () => {
  const ended = daemon.start();
  await daemon.says('ready');
  const { domid } = await daemon.attach();
  const guest = await daemon.host.connectGuest(domid);
  const socket = daemon.host.path('control');
  const device = `qdisk-${domid}-51712`;
  truncateSync(daemon.host.path('image'), MIB + 100);
  await expect(askDaemon(socket, { command: 'x-refresh' })).rejects.toThrow(/shrank from 2097152 to 1048576 bytes/);
  await expect(askDaemon(socket, { command: 'x-refresh', args: { disk: device } })).rejects.toThrow('--allow-shrink');
  await expect(askDaemon(socket, { command: 'x-refresh', args: { disk: 'none' } })).rejects.toThrow(
    `there is no disk none; the disks are ${device}`,
  );
  expect(guest.size).toBe(2 * MIB);
  const [status] = await askDaemon(socket, { command: 'x-refresh', args: { disk: device, 'allow-shrink': true } });
  expect(status).toMatchObject({ device, size: MIB });
  await expect.poll(() => guest.size).toBe(MIB);
  const said = daemon.lines.filter(({ msg }) => String(msg).includes('does not end with a sector'));
  expect(said).toMatchObject([{ level: 40, size: MIB + 100, served: MIB }]);
  daemon.stop();
  expect(await ended).toBe(0);
});
