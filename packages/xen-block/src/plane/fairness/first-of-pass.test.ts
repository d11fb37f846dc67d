import type { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { expect, it, onTestFinished } from 'vitest';
import { type RequestEvent, requestChannels } from '../../diagnostics.js';
import { TestHost } from '../../testing/host.js';

/** Requests that are taken off the rings of a guest in one pass. */
const TAKEN = 64;
const PASSES = 4;
const GUESTS = 3;

/** Which ring each request was taken from, in the order of taking. */
function listen(): string[] {
  const rings: string[] = [];
  const onPulled = (event: unknown) => rings.push((event as RequestEvent).ring);
  requestChannels.pulled.subscribe(onPulled);
  onTestFinished(() => {
    requestChannels.pulled.unsubscribe(onPulled);
  });
  return rings;
}

/** As many flushes of nothing, which need no memory, as passes can take. */
function flushes(disk: Blkfront): Promise<{ status: number }>[] {
  const raw = rawQueue(disk);
  const words = new Int32Array(raw.abi.slotWords);
  const request = new RequestWriter(words, raw.abi);
  const answers = Array.from({ length: PASSES * TAKEN }, (_, id) => {
    request.readWrite(BlkifOp.flushDiskcache, 0, id, 0, 0);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

it('the ring that is first moves on with each pass, so that no guest is always the last', async () => {
  const host = await TestHost.start();
  const disks: Blkfront[] = [];
  onTestFinished(async () => {
    await Promise.allSettled(disks.map((disk) => disk.close()));
    await host[Symbol.asyncDispose]();
  });
  for (let i = 0; i < GUESTS; i++) disks.push(await (await host.guest()).connect({ ringPageOrder: 3 }));
  const taken = listen();
  const answers = disks.flatMap(flushes);
  for (const { status } of await Promise.all(answers)) expect(status).toBe(BlkifStatus.okay);
  expect(taken).toHaveLength(GUESTS * PASSES * TAKEN);
  const turns = taken.filter((_, at) => at % TAKEN === 0);
  const passes = Array.from({ length: PASSES }, (_, pass) => turns.slice(pass * GUESTS, (pass + 1) * GUESTS));
  // All of them in each pass, one place further on than in the pass before.
  for (const [at, rings] of passes.entries()) {
    expect(new Set(rings).size).toBe(GUESTS);
    if (at > 0) expect(rings).toEqual([...passes[at - 1].slice(1), passes[at - 1][0]]);
  }
});
