import type { Blkfront } from '@xenpv/blkfront';
import { memoryImage, nullImage } from '@xenpv/blockdev';
import { expect, it, onTestFinished, vi } from 'vitest';
import { TestHost } from '../../testing/host.js';

vi.setConfig({ testTimeout: 30_000 });

const MIB = 1 << 20;
const SECRET = 0xaa;
/** Single such bytes are also in a guest's own lists of segments. */
const TRACE = Buffer.alloc(16, SECRET);

/** Memory for two of the largest requests. */
async function setting() {
  const host = await TestHost.start({ memoryBytes: MIB, limits: { maxIndirectSegments: 64 } });
  onTestFinished(() => host[Symbol.asyncDispose]());
  host.images.set('kept', () => memoryImage({ size: 4 * MIB }));
  // It says that a read was done, and leaves in memory what is there.
  host.images.set('careless', () => nullImage({ size: 4 * MIB, readZeroes: false }));
  return host;
}

async function fill(disk: Blkfront): Promise<void> {
  const sizes = [512, 4096, 65536, 262144];
  await Promise.all(
    sizes.flatMap((bytes) => Array.from({ length: 8 }, () => disk.write(0, new Uint8Array(bytes).fill(SECRET)))),
  );
}

async function expectNoSecret(disk: Blkfront): Promise<void> {
  for (const bytes of [512, 4096, 12288, 65536, 262144]) {
    const reads = await Promise.all(Array.from({ length: 8 }, (_, i) => disk.read(i * bytes, bytes)));
    for (const read of reads) expect(Buffer.from(read).includes(TRACE)).toBe(false);
  }
}

it('a read that storage never did shows nothing of another guest', async () => {
  const host = await setting();
  const [one, other] = [await host.guest(), await host.guest()];
  const kept = await one.connect({}, { target: 'kept' });
  const careless = await other.connect({}, { target: 'careless' });
  for (let round = 0; round < 3; round++) {
    await fill(kept);
    await expectNoSecret(careless);
    await Promise.all([fill(kept), expectNoSecret(careless)]);
  }
  await Promise.all([kept.close(), careless.close()]);
});

it('nor does it show the bytes of a domain that is gone to the next one of its number', async () => {
  const host = await setting();
  const one = await host.guest();
  const kept = await one.connect({}, { target: 'kept' });
  await fill(kept);
  await kept.close();
  await one.destroy();
  const domain = await host.xen.createDomain({ name: 'next', domid: one.domid, memoryMiB: 64 });
  const next = host.guestOf(domain);
  const careless = await next.connect({}, { target: 'careless' });
  await expectNoSecret(careless);
  await careless.close();
});
