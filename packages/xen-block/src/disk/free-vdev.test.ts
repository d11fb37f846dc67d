import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { expect, it } from 'vitest';
import { firstFreeVdev } from './free-vdev.js';

const xvd = (disk: number) => 51712 + disk * 16;

it.each<[string, number[], string]>([
  ['no disks', [], 'xvda'],
  ['xvda', [xvd(0)], 'xvdb'],
  ['a hole', [xvd(0), xvd(2)], 'xvdb'],
  // QEMU decodes these with a wrong mask and would give out c, d and g again.
  ['xvda to xvdd', [0, 1, 2, 3].map(xvd), 'xvde'],
  ['xvda to xvdg', [0, 1, 2, 3, 4, 5, 6].map(xvd), 'xvdh'],
  ['sixteen', Array.from({ length: 16 }, (_, disk) => xvd(disk)), 'xvdq'],
  ['hda, whose number is another', [768], 'xvdb'],
  ['sdb', [2064], 'xvda'],
  ['a partition', [xvd(0) + 1], 'xvdb'],
  ['a large disk number', [(1 << 28) | (0 << 8)], 'xvdb'],
])('%s', async (_name, numbers, vdev) => {
  const xenstored = new EmulatedXenstored();
  const store = XenstoreClient.open(xenstored.connect(0));
  for (const number of numbers) await store.mkdir(`/local/domain/3/device/vbd/${number}`);
  expect(await firstFreeVdev(store, 3)).toBe(vdev);
  await store.close();
  await xenstored.close();
});
