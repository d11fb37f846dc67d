import type { BlockDevice } from '@xenpv/xen-block';
import { expect, it } from 'vitest';
import { findDisk } from './find-disk.js';

/** As much of a disk as it is found by. */
function disk(domid: number, vdev: string, target: string): BlockDevice {
  const devid = vdev === 'xvda' ? 51712 : 51728;
  const config = { vdev, target };
  return { address: { type: 'qdisk', domid, devid }, config, image: { description: target } } as unknown as BlockDevice;
}

const [first, second, third] = [disk(5, 'xvda', '/a.img'), disk(5, 'xvdb', '/b.img'), disk(6, 'xvda', '/b.img')];
const NAMES: Record<number, string> = { 5: 'web1', 6: 'a:b' };
const names = {
  devices: [first, second, third],
  ownDomid: 0,
  nameOfDomain: async (domid: number) => NAMES[domid],
};

it.each([
  ['web1:xvda', first],
  ['web1:xvdb', second],
  ['5:xvda', first],
  ['6:xvda', third],
  ['a:b:xvda', third],
  ['qdisk-5-51728', second],
  ['qdisk/6/51712', third],
  ['/local/domain/0/backend/qdisk/5/51712', first],
  ['/a.img', first],
])('%s is one disk', async (name, device) => {
  expect(await findDisk(name, names)).toBe(device);
});

it.each([
  ['/b.img', '/b.img is more than one disk; name one of qdisk-5-51728, qdisk-6-51712'],
  ['web2:xvda', 'there is no disk web2:xvda; the disks are qdisk-5-51712, qdisk-5-51728, qdisk-6-51712'],
  ['web1:xvdc', 'there is no disk web1:xvdc'],
  ['web1', 'there is no disk web1'],
  [':xvda', 'there is no disk :xvda'],
  ['', 'there is no disk ;'],
])('%j is none', async (name, message) => {
  await expect(findDisk(name, names)).rejects.toThrow(message);
});

it('two guests of one name are told apart by their numbers', async () => {
  const twins = { ...names, nameOfDomain: async () => 'web1' };
  await expect(findDisk('web1:xvda', twins)).rejects.toThrow('name one of qdisk-5-51712, qdisk-6-51712');
  expect(await findDisk('6:xvda', twins)).toBe(third);
});

it('where names may not be read, numbers do', async () => {
  const nameless = { ...names, nameOfDomain: async () => undefined };
  await expect(findDisk('web1:xvda', nameless)).rejects.toThrow('there is no disk');
  expect(await findDisk('5:xvdb', nameless)).toBe(second);
});
