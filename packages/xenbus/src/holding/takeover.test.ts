import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { type Fault, Faults, XS_TRANSACTION_END, XS_WATCH } from '../testing/faulty-transport.js';
import { ToyWorld } from '../testing/toy-world.js';

const SOON = { timeout: 15_000 };

/**
 * Devices that were Connected are taken over while things fail. A start that rejects is one of a process that ends, and the
 * next one starts. In the end they are served, and nothing but Connected was ever written. Resolves with the requests.
 */
async function takeOver(type: string, faultAt: (request: number, type: number) => Fault | undefined): Promise<number> {
  let first = Number.POSITIVE_INFINITY;
  const faults = new Faults((request, kind) => (request < first ? undefined : faultAt(request - first, kind)));
  await using world = await ToyWorld.create({ type, faults, keys: ['colour'] });
  await world.leaveConnected();
  first = faults.count;
  for (let isUp = false; !isUp; ) isUp = await world.start().then(() => true, isError);
  await vi.waitFor(() => expect(world.device()).toMatchObject({ connected: true, held: undefined }), SOON);
  await vi.waitFor(() => expect(world.toys.at(-1)?.values).toEqual([{ colour: 'red' }]), SOON);
  const requests = faults.count - first;
  first = Number.POSITIVE_INFINITY;
  expect(world.toys.at(-1)?.calls.slice(-2)).toEqual(['prepare', 'adopt']);
  for (const toy of world.toys.slice(0, -1)) expect([undefined, 'leave']).toContain(toy.calls.at(-1));
  expect(world.written.filter((state) => !state.endsWith('Connected'))).toEqual([]);
  expect(await world.outside.read(`${world.back()}/state`)).toBe('4');
  await world.bus.close();
  return requests;
}

function isError(error: unknown): false {
  expect(error).toBeInstanceOf(Error);
  return false;
}

const FAULTS: readonly Fault[] = ['EIO', 'EAGAIN', 'ENOSPC', 'E2BIG', 'EINVAL', 'lost before', 'lost after'];

/** `work` for each place, some at a time. */
async function atOnce(places: readonly number[], work: (place: number) => Promise<unknown>): Promise<void> {
  const left = [...places];
  const next = async () => {
    for (let place = left.shift(); place !== undefined; place = left.shift()) await work(place);
  };
  await Promise.all(Array.from({ length: 16 }, next));
}

describe('a takeover', () => {
  it.each(FAULTS)(
    'with %s at any place of a request ends in serving, and writes no other state',
    async (fault) => {
      const requests = await takeOver('toy', () => undefined);
      expect(requests).toBeGreaterThan(20);
      const places = Array.from({ length: requests }, (_, place) => place);
      await atOnce(places, (place) =>
        takeOver(`toy${place}`, (request) => (request === place ? fault : undefined)).catch((cause: Error) => {
          throw new Error(`${fault} at request ${place} of ${requests}: ${cause.message}`, { cause });
        }),
      );
    },
    60_000,
  );

  it('with several faults at any places, of any kinds, does so too', async () => {
    const anyFault = fc.tuple(fc.nat(60), fc.constantFrom(...FAULTS));
    const runs = fc.sample(fc.array(anyFault, { minLength: 2, maxLength: 4 }), 40);
    await atOnce([...runs.keys()], (run) => {
      const faults = new Map(runs[run]);
      return takeOver(`toy-many-${run}`, (request) => faults.get(request)).catch((cause: Error) => {
        throw new Error(`${JSON.stringify(runs[run])}: ${cause.message}`, { cause });
      });
    });
  }, 60_000);

  it('with more conflicts than a transaction is begun again for, and a watch that is refused for long, too', async () => {
    let conflicts = 0;
    let refused = 0;
    await takeOver('toy', (_request, type) => {
      if (type === XS_TRANSACTION_END && conflicts < 110) {
        conflicts++;
        return 'EAGAIN';
      }
      return type === XS_WATCH && refused++ < 4 ? 'E2BIG' : undefined;
    });
    expect(conflicts).toBeGreaterThan(100);
    expect(refused).toBeGreaterThan(4);
  }, 60_000);
});
