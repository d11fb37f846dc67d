import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, it } from 'vitest';
import type { RequestEvent } from '../../diagnostics.js';
import { TestHost } from '../../testing/host.js';

it('each request is told of at its four points, in order', async () => {
  const seen: string[] = [];
  const points = ['pulled', 'queued', 'completed', 'pushed'];
  const listeners = points.map((point) => {
    const listener = (message: unknown) => {
      const { ring, operation, offset, length, status } = message as RequestEvent;
      seen.push([point, ring, operation, offset, length, status].join(' '));
    };
    subscribe(`xen-block:request:${point}`, listener);
    return listener;
  });
  await using host = await TestHost.start();
  const guest = await host.guest();
  const disk = await guest.connect();
  await disk.read(8192, 4096);
  // Its row is the one of the request before.
  await disk.write(512, new Uint8Array(1024));
  await disk.close();
  for (const [i, point] of points.entries()) unsubscribe(`xen-block:request:${point}`, listeners[i]);
  const ring = `qdisk-${guest.domid}-51712/0`;
  expect(seen).toEqual([
    `pulled ${ring} 0 8192 0 0`,
    `queued ${ring} 0 8192 4096 0`,
    `completed ${ring} 0 8192 4096 0`,
    `pushed ${ring} 0 8192 4096 0`,
    `pulled ${ring} 1 512 0 0`,
    `queued ${ring} 1 512 1024 0`,
    `completed ${ring} 1 512 1024 0`,
    `pushed ${ring} 1 512 1024 0`,
  ]);
});
