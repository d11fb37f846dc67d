import { ABIS, BlkifStatus, encodeResponse, requestIdHigh, requestIdLow, requestOperation } from '@xenpv/blkif';
import { EmulatedHost } from '@xenpv/emulator';
import { BackRing } from '@xenpv/ring';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it, vi } from 'vitest';
import { Blkfront } from './index.js';
import { rawQueue } from './testing/index.js';

const abi = ABIS.x86_64;

/** What a backend does with the first request; all words that it answers with are its own choice. */
type Answer = (ring: BackRing, response: Int32Array, request: Int32Array, shared: Int32Array) => void;

/** A backend by hand, as wrong as it likes. Gives the frontend that connected to it. */
async function connectTo(answer: Answer, keys: Record<string, string> = {}) {
  const host = await EmulatedHost.create();
  const provider = host.provider();
  const store = XenstoreClient.open(await provider.connectXenstore());
  const guest = await host.createDomain({ name: 'guest' });
  const guestStore = XenstoreClient.open(await guest.provider.connectXenstore());
  const { backendPath, frontendPath } = await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: 'x' });
  await store.write(`${backendPath}/state`, 2);
  const connecting = Blkfront.connect({ provider: guest.provider, store: guestStore, vdev: 'xvda' });
  await store.waitFor(async (ops) => ((await ops.tryRead(`${frontendPath}/state`)) === '3' ? true : undefined));
  const number = async (key: string) => Number(await store.read(`${frontendPath}/${key}`));
  const grants = provider.openGrantTable();
  const refs = Uint32Array.of(await number('ring-ref'));
  const { buffer, offsets } = grants.map(guest.domid, refs, { writable: true });
  const events = provider.openEventChannels();
  const port = events.bindInterdomain(guest.domid, await number('event-channel'));
  const memory = { buffer, byteOffset: offsets[0], byteLength: 4096 };
  const ring = BackRing.attach(memory, abi.slotBytes);
  events.listen((ports, count) => {
    events.unmask(ports, count);
    if (ring.finalCheck()) {
      const request = new Int32Array(abi.slotWords);
      ring.takeRequest(request, 0);
      answer(ring, new Int32Array(4), request, new Int32Array(buffer, offsets[0], 1024));
      events.notify(port);
    }
  });
  for (const [key, value] of Object.entries({ sectors: '2048', ...keys })) {
    await store.write(`${backendPath}/${key}`, value);
  }
  await store.write(`${backendPath}/state`, 4);
  const dispose = async () => {
    for (const client of [guestStore, store]) await client.close();
    await host.close();
  };
  connecting.catch(() => {});
  return { front: connecting, store, backendPath, frontendPath, [Symbol.asyncDispose]: dispose };
}

/** Puts an answer, changed by `change`, and publishes it. */
function reply(change: (request: { low: number; high: number; operation: number; status: number }) => void): Answer {
  return (ring, response, request) => {
    const fields = {
      low: requestIdLow(request, 0, abi),
      high: requestIdHigh(request, 0, abi),
      operation: requestOperation(request, 0),
      status: BlkifStatus.okay as number,
    };
    change(fields);
    encodeResponse(response, 0, abi, fields.low, fields.high, fields.operation, fields.status);
    ring.putResponse(response, 0, abi.responseWords);
    ring.pushResponses();
  };
}

describe('a backend that breaks the protocol is not trusted any more', () => {
  const wrong: [string, Answer][] = [
    ['an id that nobody sent', reply((fields) => (fields.high = 0))],
    ['a request that is not in flight', reply((fields) => (fields.low = 7))],
    ['a request beyond the ring', reply((fields) => (fields.low = 1000))],
    ['a request of an earlier use of the slot', reply((fields) => fields.high--)],
    ['another operation', reply((fields) => (fields.operation = 1))],
    ['more responses than requests', (_ring, _response, _request, shared) => Atomics.store(shared, 2, 2)],
    ['responses from the past', (_ring, _response, _request, shared) => Atomics.store(shared, 2, -1)],
  ];

  it.each(wrong)('%s', async (_name, answer) => {
    await using backend = await connectTo(answer);
    const front = await backend.front;
    const broken = expect.objectContaining({ code: 'ERR_BACKEND' });
    const waiting = front.read(4096, 512);
    await expect(front.read(0, 512)).rejects.toThrow(broken);
    await expect(waiting).rejects.toThrow(broken);
    await expect(front.flush()).rejects.toThrow(broken);
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });
});

describe('a load ends when the backend breaks the protocol, seen by an event or by looking', () => {
  it.each([
    ['an event', 0],
    ['looking', 1_000_000],
  ])('%s', async (_name, spins) => {
    await using backend = await connectTo((_ring, _response, _request, shared) => Atomics.store(shared, 2, 2));
    const front = await backend.front;
    const broken = expect.objectContaining({ code: 'ERR_BACKEND', op: 'ring' });
    const load = { operation: 'read', blockSize: 512, requests: 1, spins } as const;
    await expect(front.load(load)).rejects.toThrow(broken);
    await expect(front.load(load)).rejects.toThrow(broken);
    await expect(front.read(0, 512)).rejects.toThrow(broken);
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });
});

describe('answers', () => {
  it.each([
    [BlkifStatus.error, 'EIO'],
    [BlkifStatus.eopnotsupp, 'EOPNOTSUPP'],
    [-77, 'EIO'],
    [1, 'EIO'],
  ])('status %i is %s', async (status, name) => {
    await using backend = await connectTo(reply((fields) => (fields.status = status)));
    const front = await backend.front;
    await expect(front.read(0, 512)).rejects.toThrow(expect.objectContaining({ code: name, op: 'read' }));
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });

  it('that never come are an error when the backend is gone', async () => {
    await using backend = await connectTo(() => {});
    const front = await backend.front;
    const waiting = [front.read(0, 512), rawQueue(front).request(new Int32Array(28))];
    const gone = expect.objectContaining({ code: 'ERR_CLOSED' });
    await backend.store.write(`${backend.backendPath}/state`, 6);
    for (const request of waiting) await expect(request).rejects.toThrow(gone);
    await front.closed;
  });

  it('that do not come are waited for until the signal aborts', async () => {
    await using backend = await connectTo(() => {});
    const front = await backend.front;
    const abort = new AbortController();
    const { signal } = abort;
    const waiting = [front.read(0, 512, { signal }), front.write(0, new Uint8Array(512), { signal })];
    abort.abort(new Error('enough'));
    for (const request of waiting) await expect(request).rejects.toThrow('enough');
    await expect(front.flush({ signal })).rejects.toThrow('enough');
    expect(front.inFlight).toBe(2);
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });

  it('that never come to a load are an error when the backend is gone', async () => {
    await using backend = await connectTo(() => {});
    const front = await backend.front;
    const loading = front.load({ operation: 'read', blockSize: 512, requests: 5 });
    const gone = expect.objectContaining({ code: 'ERR_CLOSED' });
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await expect(loading).rejects.toThrow(gone);
    await expect(front.load({ operation: 'read', blockSize: 512, requests: 5 })).rejects.toThrow(gone);
    await front.closed;
  });

  it('that do not come to a load are waited for until the signal aborts', async () => {
    await using backend = await connectTo(() => {});
    const front = await backend.front;
    const abort = new AbortController();
    const load = { operation: 'read', blockSize: 512, depth: 3, requests: 5, signal: abort.signal } as const;
    const loading = front.load(load);
    await vi.waitFor(() => expect(front.inFlight).toBe(3));
    abort.abort(new Error('enough'));
    await expect(loading).rejects.toThrow('enough');
    await expect(front.load(load)).rejects.toThrow('enough');
    expect(front.inFlight).toBe(3);
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });

  it('that come after a load was aborted disturb nobody', async () => {
    const late: (() => void)[] = [];
    let isLate = true;
    const okay = reply(() => {});
    await using backend = await connectTo((ring, response, request, shared) => {
      const answer = () => okay(ring, response, request, shared);
      // It wants to hear of the next request, too.
      ring.finalCheck();
      if (isLate) late.push(answer);
      else answer();
    });
    const front = await backend.front;
    const abort = new AbortController();
    const loading = front.load({ operation: 'read', blockSize: 512, requests: 1, signal: abort.signal });
    await vi.waitFor(() => expect(late).toHaveLength(1));
    abort.abort(new Error('enough'));
    await expect(loading).rejects.toThrow('enough');
    isLate = false;
    late[0]();
    expect(await front.read(0, 512)).toHaveLength(512);
    expect(front.inFlight).toBe(0);
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });
});

describe('keys', () => {
  it('that say nothing leave a plain disk', async () => {
    await using backend = await connectTo(reply(() => {}));
    const front = await backend.front;
    expect(front).toMatchObject({
      size: 2 ** 20,
      sectorSize: 512,
      physicalSectorSize: 512,
      ringPageOrder: 0,
      queues: 1,
    });
    expect(front.features).toMatchObject({ flush: false, barrier: false, discard: false, maxIndirectSegments: 0 });
    await front.flush();
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });

  it.each([
    ['max-indirect of nonsense', { 'feature-max-indirect-segments': 'many' }, { maxIndirectSegments: 0 }],
    ['fewer indirect segments than direct ones', { 'feature-max-indirect-segments': '8' }, { maxIndirectSegments: 0 }],
    ['a barrier only', { 'feature-barrier': '1' }, { flush: false, barrier: true }],
    ['discard without its granularity', { 'feature-discard': '1' }, { discard: true, discardGranularity: 512 }],
    ['secure discard without discard', { 'discard-secure': '1' }, { discard: false, secureDiscard: false }],
  ])('%s', async (_name, keys, features) => {
    await using backend = await connectTo(
      reply(() => {}),
      keys as Record<string, string>,
    );
    const front = await backend.front;
    expect(front.features).toMatchObject(features);
    await front.flush();
    await backend.store.write(`${backend.backendPath}/state`, 6);
    await front.closed;
  });

  it.each([
    ['no number of sectors', { sectors: 'all' }],
    ['a negative number of sectors', { sectors: '-1' }],
    ['sectors of 100 bytes', { 'sector-size': '100' }],
    ['sectors of 768 bytes', { 'sector-size': '768' }],
  ])('with %s are no disk', async (_name, keys) => {
    await using backend = await connectTo(() => {}, keys as Record<string, string>);
    await backend.store.waitFor(async (ops) => {
      const state = await ops.tryRead(backend.frontendPath.concat('/state'));
      if (state === '5') await backend.store.write(`${backend.backendPath}/state`, 6);
      return state === '6' ? true : undefined;
    });
    await expect(backend.front).rejects.toThrow(expect.objectContaining({ code: 'ERR_HANDSHAKE' }));
  });
});
