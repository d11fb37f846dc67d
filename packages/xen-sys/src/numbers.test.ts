import { describe, expect, it } from 'vitest';
import type { EventChannels } from './event-channels.js';
import type { GrantCopyBatch } from './grant-copy.js';
import type { GrantTable } from './grant-table.js';
import { type Domid, type EvtchnPort, type Gref, parseDomid, parseEvtchnPort, parseGref } from './numbers.js';

describe('numbers of one kind', () => {
  it.each<[string | number, Domid | undefined]>([
    ['0', 0],
    ['32751', 32751],
    ['32752', undefined],
    [5, 5],
    [-0, 0],
    [-1, undefined],
    [1.5, undefined],
    [Number.NaN, undefined],
    [Number.POSITIVE_INFINITY, undefined],
    ['', undefined],
    ['05', undefined],
    [' 5', undefined],
    ['5\n', undefined],
    ['0x5', undefined],
    ['1e3', undefined],
    ['१', undefined],
  ])('a domid: %j is %j', (value, domid) => {
    expect(parseDomid(value) === domid).toBe(true);
  });

  it.each([parseGref, parseEvtchnPort])('%o takes 32 bits', (parse) => {
    expect([parse('4294967295'), parse('4294967296'), parse(2 ** 32), parse('99999999999')]).toEqual([
      4294967295,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

/** Never run: the compiler says what holds. */
export function isCompiled(
  events: EventChannels,
  grants: GrantTable,
  batch: GrantCopyBatch,
  known: { domid: Domid; gref: Gref; port: EvtchnPort },
): void {
  const { domid, gref, port } = known;
  events.bindInterdomain(domid, port);
  events.bindInterdomain(5, 7);
  events.notify(events.bindUnbound(domid));
  batch.fromGrant(domid, gref, 0, 0, 4096);
  grants.map(domid, Uint32Array.of(gref), { writable: true });
  const plain: number = domid + 1;
  events.bindUnbound(plain);
  // @ts-expect-error domain and port are swapped
  events.bindInterdomain(port, domid);
  // @ts-expect-error a grant reference is no port
  events.notify(gref);
  // @ts-expect-error domain and grant reference are swapped
  batch.fromGrant(gref, domid, 0, 0, 4096);
  // @ts-expect-error a port is no domain
  grants.map(events.bindUnbound(domid), Uint32Array.of(gref), { writable: true });
}
