import assert from 'node:assert/strict';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '../client/client.js';
import { readTree, type TreeSchema, writeTree } from '../tree/tree.js';
import { watchTree } from '../tree/tree-watch.js';
import type { ConformanceTarget } from './conformance/scene.js';

/** Something that {@link XenstoreClient} must do with any server. The store is changed under `/client` only. */
export interface ClientCase {
  readonly name: string;
  /** `open` gives another client of domain 0, `openGuest` one of a new domain that has `/client` for its own. */
  readonly run: (store: XenstoreClient, open: OpenClient, openGuest: OpenClient) => Promise<void>;
  /** Needs a domain other than 0. */
  readonly guests?: true;
}

type OpenClient = () => Promise<XenstoreClient>;

/** Unlike those of the conformance cases. */
let nextDomid = 30001;

const schema = {
  state: { type: 'uint' },
  mode: { type: 'enum', values: ['r', 'w'], default: 'r' },
  'feature-discard': { type: 'boolean', optional: true },
} as const satisfies TreeSchema;

/** Runs a case with connections that are closed afterwards. */
export async function runClientCase(one: ClientCase, target: ConformanceTarget): Promise<void> {
  const clients: XenstoreClient[] = [];
  const domids: number[] = [];
  const keep = (transport: XenstoreTransport) => {
    const client = XenstoreClient.open(transport);
    clients.push(client);
    return client;
  };
  const open = async () => keep(await target.connect());
  const store = await open();
  const openGuest = async () => {
    const domid = nextDomid++;
    domids.push(domid);
    const guest = keep(await target.connectGuest!(domid));
    await store.mkdir('/client');
    await store.setPermissions('/client', [{ domid, access: 'n' }]);
    return guest;
  };
  await store.remove('/client');
  try {
    await one.run(store, open, openGuest);
  } finally {
    await store.remove('/client');
    await Promise.all(clients.map((client) => client.close()));
    for (const domid of domids) await target.removeGuest?.(domid);
  }
}

/** Reads the number in a node, adds one, writes it: with others at it, only a transaction gets that right. */
function increment(store: XenstoreClient, path: string): Promise<void> {
  return store.transaction(
    async (tx) => {
      const before = Number((await tx.tryRead(path)) ?? 0);
      await tx.write(path, before + 1);
    },
    { retries: 1000 },
  );
}

/** All of them; their names are unique. */
export const clientCases: readonly ClientCase[] = [
  {
    name: 'reads what it wrote: text, bytes, numbers, booleans',
    run: async (store) => {
      await store.write('/client/text', 'grüße');
      await store.write('/client/bytes', Uint8Array.of(0, 255));
      await store.write('/client/number', 51712);
      await store.write('/client/boolean', false);
      assert.equal(await store.read('/client/text'), 'grüße');
      assert.deepEqual(await store.readBytes('/client/bytes'), Uint8Array.of(0, 255));
      assert.equal(await store.read('/client/number'), '51712');
      assert.equal(await store.read('/client/boolean'), '0');
    },
  },
  {
    name: 'tells what is missing',
    run: async (store) => {
      assert.equal(await store.tryRead('/client/no'), undefined);
      assert.equal(await store.exists('/client/no'), false);
      assert.equal(await store.tryDirectory('/client/no'), undefined);
      await assert.rejects(store.read('/client/no'), { code: 'ENOENT', op: 'read', path: '/client/no' });
      await store.mkdir('/client/yes');
      assert.equal(await store.exists('/client/yes'), true);
      assert.deepEqual(await store.directory('/client/yes'), []);
      await store.remove('/client/yes');
      await store.remove('/client/yes/nor/below');
      assert.equal(await store.exists('/client/yes'), false);
    },
  },
  {
    name: 'lists a directory of any size',
    run: async (store) => {
      const names = Array.from({ length: 1000 }, (_, i) => `a-child-with-a-name-${i}`);
      await Promise.all(names.map((name) => store.mkdir(`/client/${name}`)));
      assert.deepEqual((await store.directory('/client')).sort(), names.sort());
    },
  },
  {
    name: 'reads and sets permissions',
    run: async (store) => {
      await store.mkdir('/client/x');
      assert.deepEqual(await store.getPermissions('/client/x'), [{ domid: 0, access: 'n' }]);
      await store.setPermissions('/client/x', [
        { domid: 0, access: 'r' },
        { domid: 5, access: 'b' },
      ]);
      assert.deepEqual(await store.getPermissions('/client/x'), [
        { domid: 0, access: 'r' },
        { domid: 5, access: 'b' },
      ]);
    },
  },
  {
    name: 'has ten thousand requests pending',
    run: async (store) => {
      await store.write('/client/x', 'value');
      const values = await Promise.all(Array.from({ length: 10_000 }, () => store.read('/client/x')));
      assert.deepEqual([...new Set(values)], ['value']);
    },
  },
  {
    name: 'commits and aborts transactions',
    run: async (store) => {
      await store.transaction((tx) => tx.write('/client/x', 1));
      await assert.rejects(
        store.transaction(async (tx) => {
          await tx.write('/client/x', 2);
          throw new Error('no');
        }),
        { message: 'no' },
      );
      assert.equal(await store.read('/client/x'), '1');
      const byHand = await store.begin();
      await byHand.write('/client/x', 3);
      await byHand.abort();
      await byHand.abort();
      await assert.rejects(byHand.commit(), { code: 'ERR_INVALID_ARGUMENT' });
      assert.equal(await store.read('/client/x'), '1');
    },
  },
  {
    name: 'repeats transactions that lost a race',
    run: async (store, open) => {
      const clients = [store, await open(), await open()];
      await Promise.all(clients.flatMap((client) => Array.from({ length: 6 }, () => increment(client, '/client/n'))));
      assert.equal(await store.read('/client/n'), '18');
    },
  },
  {
    name: 'has more transactions to do than a domain may have open',
    guests: true,
    run: async (_, __, openGuest) => {
      const guest = await openGuest();
      const paths = Array.from({ length: 40 }, (_, i) => `/client/${i}`);
      await Promise.all(paths.map((path) => guest.write(path, 0)));
      await Promise.all(paths.map((path) => increment(guest, path)));
      const values = await Promise.all(paths.map((path) => guest.read(path)));
      assert.deepEqual([...new Set(values)], ['1']);
    },
  },
  {
    name: 'gives up a transaction that loses every race',
    run: async (store, open) => {
      const rival = await open();
      let runs = 0;
      const losing = store.transaction(
        async (tx) => {
          runs++;
          await tx.read('/client/x');
          await rival.write('/client/x', runs);
          await tx.write('/client/x', 'mine');
        },
        { retries: 2 },
      );
      await assert.rejects(
        store.write('/client/x', 0).then(() => losing),
        { code: 'EAGAIN' },
      );
      assert.equal(runs, 3);
    },
  },
  {
    name: 'watches',
    run: async (store, open) => {
      const other = await open();
      await using watch = await store.watch('/client/x');
      assert.deepEqual(await watch.next(), { done: false, value: { path: '/client/x' } });
      await other.write('/client/x/y', 1);
      assert.equal((await watch.next()).value?.path, '/client/x/y');
      await other.remove('/client');
      assert.equal((await watch.next()).value?.path, '/client/x');
    },
  },
  {
    name: 'watches with a depth',
    run: async (store) => {
      await using watch = await store.watch('/client', { depth: 1 });
      await watch.next();
      await store.write('/client/x/y', 1);
      await store.write('/client/x', 1);
      assert.equal((await watch.next()).value?.path, '/client/x');
    },
  },
  {
    name: 'has a thousand watches and loses none of their events',
    run: async (store, open) => {
      const other = await open();
      const paths = Array.from({ length: 1000 }, (_, i) => `/client/${i}`);
      const watches = await Promise.all(paths.map((path) => store.watch(path)));
      await Promise.all(watches.map((watch) => watch.next()));
      await Promise.all(paths.map((path) => other.write(`${path}/x`, 1)));
      const seen = await Promise.all(watches.map(async (watch) => (await watch.next()).value?.path));
      assert.deepEqual(
        seen,
        paths.map((path) => `${path}/x`),
      );
      await Promise.all(watches.map((watch) => watch.close()));
    },
  },
  {
    name: 'waits until what it reads says so',
    run: async (store, open) => {
      const other = await open();
      const looks: (string | undefined)[] = [];
      const waiting = store.waitFor(async (look) => {
        const [a, b] = await Promise.all([look.tryRead('/client/a'), look.tryRead('/client/b')]);
        looks.push(`${a}${b}`);
        return a === '1' && b === '1' ? 'both' : undefined;
      });
      await other.write('/client/a', 1);
      await other.write('/client/b', 0);
      await other.write('/client/b', 1);
      assert.equal(await waiting, 'both');
      assert.equal(looks.at(-1), '11');
    },
  },
  {
    name: 'waits with a signal, and leaves no watch behind',
    run: async (store) => {
      const abort = new AbortController();
      const waiting = store.waitFor(
        async (look) => {
          const value = await look.tryRead('/client/no');
          setImmediate(() => abort.abort(new Error('enough')));
          return value;
        },
        { signal: abort.signal },
      );
      await assert.rejects(waiting, { message: 'enough' });
      await store.write('/client/no', 1);
      assert.equal(await store.waitFor((look) => look.tryRead('/client/no')), '1');
    },
  },
  {
    name: 'reads and writes a directory as an object',
    run: async (store) => {
      await writeTree(store, '/client/d', schema, { state: 4, mode: 'w' });
      assert.deepEqual(await readTree(store, '/client/d', schema), {
        state: 4,
        mode: 'w',
        'feature-discard': undefined,
      });
      await writeTree(store, '/client/d', schema, { mode: null, 'feature-discard': true });
      assert.deepEqual(await readTree(store, '/client/d', schema), {
        state: 4,
        mode: 'r',
        'feature-discard': true,
      });
      assert.deepEqual((await store.directory('/client/d')).sort(), ['feature-discard', 'state']);
    },
  },
  {
    name: 'refuses wrong content of a directory, and says why',
    run: async (store) => {
      await store.write('/client/d/state', '4x');
      await assert.rejects(readTree(store, '/client/d', schema), {
        code: 'ERR_INVALID_VALUE',
        path: '/client/d/state',
        message:
          'xenstore read /client/d/state: ERR_INVALID_VALUE, it holds "4x", expected a whole number from 0 to 4294967295',
      });
      await assert.rejects(readTree(store, '/client/no', schema), { code: 'ENOENT', path: '/client/no/state' });
      await assert.rejects(writeTree(store, '/client/d', schema, { state: -1 }), { code: 'ERR_INVALID_VALUE' });
      assert.equal(await store.read('/client/d/state'), '4x');
    },
  },
  {
    name: 'follows a directory as objects',
    run: async (store, open) => {
      const other = await open();
      const tree = await watchTree(store, '/client/d', schema);
      const statuses: string[] = [];
      for await (const state of tree) {
        statuses.push(state.status === 'present' ? `state ${state.values.state}` : state.status);
        if (statuses.length === 1) await writeTree(other, '/client/d', schema, { state: 1 });
        if (statuses.length === 2) await other.write('/client/d/state', 'nonsense');
        if (statuses.length === 3) await other.write('/client/d/state', 4);
        if (statuses.length === 4) await other.remove('/client/d');
        if (statuses.length === 5) break;
      }
      assert.deepEqual(statuses, ['absent', 'state 1', 'invalid', 'state 4', 'absent']);
    },
  },
  {
    name: 'asks for domains and features',
    run: async (store) => {
      assert.equal(await store.getDomainPath(7), '/local/domain/7');
      assert.equal(await store.isDomainIntroduced(0), true);
      assert.equal(await store.isDomainIntroduced(7777), false);
      assert.equal(typeof (await store.getFeatures()), 'number');
    },
  },
];
