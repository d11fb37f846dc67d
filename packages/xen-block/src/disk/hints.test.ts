import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestGuest, TestHost } from '../testing/host.js';

/** What scripts and toolstacks write where a number should be. */
const NO_NUMBERS = ['', 'true', 'yes', ' ', '-1', 'x1', '\n', '99999999999999999999'];

let host: TestHost;
let guest: TestGuest;

beforeEach(async () => {
  host = await TestHost.start({ types: ['qdisk', 'vbd3'] });
  guest = await host.guest();
});

afterEach(() => host[Symbol.asyncDispose]());

/** Attaches a disk with these keys, and waits until it can be connected to. */
async function attach(backendKeys: Record<string, string>): Promise<string> {
  const path = await guest.attach({ backendKeys });
  await host.store.waitFor(async (ops) => ((await ops.tryRead(`${path}/state`)) === '2' ? true : undefined));
  return path;
}

/** Whether a disk with these keys gets to its first byte. */
async function connects(backendKeys: Record<string, string>, frontendKeys: Record<string, string> = {}): Promise<void> {
  await attach(backendKeys);
  const { store } = guest;
  const path = `/local/domain/${guest.domid}/device/vbd/51712`;
  // The frontend publishes its own keys in a transaction; these come with the toolstack's, and only some are overwritten.
  for (const [key, value] of Object.entries(frontendKeys)) await store.write(`${path}/${key}`, value);
  const disk = await guest.reconnect({ signal: AbortSignal.timeout(5000) });
  expect(await disk.read(0, 512)).toHaveLength(512);
  await disk.close();
  await guest.detach();
}

describe('a disk is not refused for', () => {
  const keys = ['bootable', 'removable', 'direct-io-safe', 'discard-enable', 'frontend-id'];
  it.each(keys)('what %s says', async (key) => {
    for (const value of [...NO_NUMBERS, '2', '1 ', '0x1']) await connects({ [key]: value });
  });

  it.each(['floppy', 'disk', 'nonsense', ''])('its device-type %j: it is a disk', async (type) => {
    await attach({ 'device-type': type });
    expect(host.device.config?.deviceType).toBe('disk');
    const disk = await guest.reconnect();
    expect(disk.info).toBe(0);
    await disk.close();
  });

  it.each(['ring-page-order', 'num-ring-pages', 'multi-queue-num-queues'])(
    'a frontend whose %s is no number',
    async (key) => {
      for (const value of NO_NUMBERS) await connects({}, { [key]: value });
    },
  );
});

describe('a hint that is', () => {
  it.each([
    ['0', false],
    ['1', true],
    ['2', true],
    ['2 or so', true],
    [' 1', true],
    ['00', false],
    ['', false],
    ['true', false],
  ])('%j is %s', async (text, yes) => {
    await attach({ 'direct-io-safe': text });
    expect(host.device.config?.direct).toBe(yes);
  });

  it('no number leaves discard to us, and 0 hides it', async () => {
    for (const [text, offered] of [
      ['', '1'],
      ['no', '1'],
      ['0', '0'],
      ['1', '1'],
    ]) {
      const path = await guest.attach({ backendKeys: { 'discard-enable': text } });
      const disk = await guest.reconnect();
      expect(await host.store.read(`${path}/feature-discard`)).toBe(offered);
      await disk.close();
      await guest.detach();
    }
  });
});

describe('feature-persistent', () => {
  it.each([
    ['2', true],
    ['1', true],
    ['0', false],
    ['', false],
    ['true', false],
  ])('of %j is %s', async (text, persistent) => {
    await host.backend.close();
    await host.startBackend({ dataPath: 'persistent' });
    await guest.attach();
    const path = `/local/domain/${guest.domid}/device/vbd/51712`;
    const disk = await guest.reconnect();
    await host.backend.close();
    await host.store.write(`${path}/feature-persistent`, text);
    await host.startBackend({ dataPath: 'persistent' });
    await expect.poll(() => host.device?.negotiated?.persistent).toBe(persistent);
    await disk.close();
  });
});

it('a drive whose toolstack wrote no params is empty', async () => {
  await host.backend.close();
  const path = await guest.attach({ target: '', deviceType: 'cdrom', readOnly: true });
  await host.store.remove(`${path}/params`);
  await host.startBackend();
  const disk = await guest.reconnect();
  expect(disk.size).toBe(0);
  await disk.close();
});
