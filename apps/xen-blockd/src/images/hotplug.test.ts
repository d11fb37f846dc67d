import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { needs } from '@xenpv/test-support';
import { IMAGE_FORMATS } from '@xenpv/xen-block';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { packageRoot } from '../package-root.js';
import { EmbeddedHost } from '../testing/host.js';
import { runTool } from '../tools.js';

const SCRIPT = fileURLToPath(new URL('hotplug/block-xen-blockd', packageRoot));

let test: EmbeddedHost;

beforeEach(async () => {
  test = await EmbeddedHost.create();
  await test.host.xenstored.listen(test.path('xenstored'));
});
afterEach(() => test[Symbol.asyncDispose]());

/** Writes a backend directory as libxl does, runs the script on it, and reads what the script wrote. */
async function hotplug(type: string, keys: Record<string, string>, action = 'add') {
  const path = `backend/${type}/5/51712`;
  for (const [key, value] of Object.entries(keys)) await test.store.write(`/local/domain/0/${path}/${key}`, value);
  const env = {
    XENBUS_PATH: path,
    XENSTORED_PATH: test.path('xenstored'),
    XEN_BLOCKD_NBD_DIRECTORY: test.path('nbd'),
  };
  const { code, stderr } = await runTool(SCRIPT, [action], { env });
  const read = (key: string) => test.store.tryRead(`/local/domain/0/${path}/${key}`);
  return { code, stderr, status: await read('hotplug-status'), error: await read('hotplug-error'), read };
}

needs('xenstore-ls').describe('block-xen-blockd', () => {
  it('lets a vbd3 disk go to Connected', async () => {
    writeFileSync(test.path('image'), 'x');
    const result = await hotplug('vbd3', { params: `aio:${test.path('image')}`, mode: 'w' });
    expect(result).toMatchObject({ code: 0, stderr: '', status: 'connected', error: undefined });
    expect(await result.read('physical-device-path')).toBeUndefined();
  });

  it('names the NBD socket of a vbd3 disk for an HVM guest', async () => {
    mkdirSync(test.path('nbd'));
    writeFileSync(test.path('nbd/vbd3-5-51712'), '');
    const result = await hotplug('vbd3', { params: 'aio:', mode: 'r', 'device-type': 'cdrom' });
    expect(await result.read('physical-device-path')).toBe(test.path('nbd/vbd3-5-51712'));
  });

  it('names the image of a vbd disk for an HVM guest', async () => {
    writeFileSync(test.path('image'), 'x');
    const result = await hotplug('vbd', { params: test.path('image'), mode: 'r' });
    expect(result).toMatchObject({ code: 0, status: 'connected' });
    expect(await result.read('physical-device-path')).toBe(test.path('image'));
  });

  it.each([
    ['vbd', 'null'],
    ['vbd', 'shm/../null'],
    ['vbd3', 'aio:null'],
  ])('takes a target of type %s that is no whole path, %s, for one below /dev', async (type, params) => {
    const result = await hotplug(type, { params, mode: 'w' });
    expect(result).toMatchObject({ code: 0, status: 'connected', error: undefined });
    if (type === 'vbd') expect(await result.read('physical-device-path')).toBe(`/dev/${params}`);
  });

  it('says where it looked for a device', async () => {
    const result = await hotplug('vbd', { params: 'vg/none', mode: 'w' });
    expect(result.error).toContain('/dev/vg/none: there is no such image');
  });

  it('leaves targets that are no paths to the daemon', async () => {
    const result = await hotplug('vbd3', { params: 'aio:nbd://host/export', mode: 'w' });
    expect(result).toMatchObject({ code: 0, status: 'connected' });
  });

  it('leaves servers to the daemon, of type vbd too', async () => {
    const result = await hotplug('vbd', { params: 'nbd+unix:///disk?socket=/run/none', mode: 'w' });
    expect(result).toMatchObject({ code: 0, status: 'connected' });
    expect(await result.read('physical-device-path')).toBeUndefined();
  });

  it.each(IMAGE_FORMATS)('takes an image whose target says that it is %s', async (format) => {
    writeFileSync(test.path('image'), 'x');
    for (const [type, params] of [
      ['vbd', `${format}:${test.path('image')}`],
      ['vbd3', `aio:${format}:${test.path('image')}`],
    ]) {
      const result = await hotplug(type, { params, mode: 'w' });
      expect(result).toMatchObject({ code: 0, status: 'connected', error: undefined });
      // QEMU would show the bytes of the file to the guest.
      expect(await result.read('physical-device-path')).toBeUndefined();
    }
    const missing = await hotplug('vbd3', { params: `aio:${format}:/none/such`, mode: 'w' });
    expect(missing.error).toContain('/none/such: there is no such image');
  });

  it('names the image of a vbd disk that is said to be raw', async () => {
    writeFileSync(test.path('image'), 'x');
    const result = await hotplug('vbd', { params: `raw:${test.path('image')}`, mode: 'r' });
    expect(await result.read('physical-device-path')).toBe(test.path('image'));
  });

  it('takes an empty cdrom drive', async () => {
    const keys = { params: 'aio:', mode: 'r', 'device-type': 'cdrom' };
    expect(await hotplug('vbd3', keys)).toMatchObject({ code: 0, status: 'connected' });
  });

  it.each<[string, Record<string, string>, string]>([
    ['no params', { mode: 'w' }, 'params is missing'],
    ['empty params', { params: '', mode: 'w' }, 'names no image'],
    ['a missing image', { params: 'aio:/none/such', mode: 'w' }, '/none/such: there is no such image'],
    ['a directory', { params: 'aio:/tmp', mode: 'w' }, '/tmp: it is a directory'],
    ['a wrong mode', { params: 'aio:/dev/null', mode: 'x' }, 'mode is "x"'],
  ])('refuses %s, and tells xl why', async (_, keys, text) => {
    const result = await hotplug('vbd3', keys);
    expect(result).toMatchObject({ code: 1, status: 'error' });
    expect(result.error).toContain(text);
    expect(result.stderr).toContain(text);
  });

  it('does nothing on remove, and refuses what it does not know', async () => {
    expect(await hotplug('vbd3', {}, 'remove')).toMatchObject({ code: 0, status: undefined });
    expect(await hotplug('vbd3', {}, 'online')).toMatchObject({ code: 1, status: undefined });
    const { code, stderr } = await runTool(SCRIPT, ['add'], { env: { XENBUS_PATH: '' } });
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining('run by xl') });
  });
});
