import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';

/** Who is told of what: of transactions, of domains, of nodes that a domain may not read. */
export const watchAudienceCases: readonly ConformanceCase[] = [
  {
    name: 'a transaction fires when it is committed, in the order of its changes',
    run: async ({ a, b }) => {
      await b.write('/case/old', '1');
      await a.watch('/case', 't');
      await a.events();
      const tx = await b.begin();
      await b.write('/case/x', '1', tx);
      await b.write('/case/y', '1', tx);
      await b.remove('/case/old', tx);
      const before = await a.events();
      await b.end(tx, 'T');
      return [before, await a.events()];
    },
    expected: [[], ['/case/x|t', '/case/y|t', '/case/old|t']],
  },
  {
    name: 'a node changed twice in a transaction',
    run: async ({ a, b }) => {
      await a.watch('/case', 't');
      await a.events();
      const tx = await b.begin();
      await b.write('/case/x', '1', tx);
      await b.write('/case/x', '2', tx);
      await b.end(tx, 'T');
      return a.events();
    },
    expected: ['/case/x|t'],
  },
  {
    name: 'an aborted or failed transaction fires nothing',
    run: async ({ a, b }) => {
      await a.write('/case/x', '1');
      await a.watch('/case', 't');
      const aborted = await b.begin();
      await b.write('/case/x', '2', aborted);
      await b.end(aborted, 'F');
      const failed = await b.begin();
      await b.read('/case/x', failed);
      await b.write('/case/y', '2', failed);
      await a.write('/case/x', '3');
      await a.events();
      return [await b.end(failed, 'T'), await a.events()];
    },
    expected: ['EAGAIN', []],
  },
  {
    name: 'what was created and removed in a transaction fires nothing',
    run: async ({ a, b }) => {
      await b.mkdir('/case');
      await a.watch('/case', 't');
      await a.events();
      const tx = await b.begin();
      await b.write('/case/x', '1', tx);
      await b.remove('/case/x', tx);
      await b.end(tx, 'T');
      return a.events();
    },
    expected: [],
  },
  {
    name: 'every watcher is told',
    run: async ({ a, b }) => {
      await a.watch('/case', 'one');
      await a.watch('/case', 'two');
      await b.watch('/case/x', 'three');
      await a.events();
      await b.events();
      await a.write('/case/x', '1');
      return [(await a.events()).sort(), await b.events()];
    },
    expected: [['/case/x|one', '/case/x|two'], ['/case/x|three']],
  },
  {
    name: 'a watch may have a depth',
    run: async ({ a }) => a.ask(XsOp.watch, ['/case', 't', '1']),
    expected: 'EINVAL',
  },
  {
    name: 'domains that come and go',
    guests: true,
    run: async (scene) => {
      const { a } = scene;
      await a.watch('@introduceDomain', 'in');
      await a.watch('@releaseDomain', 'out');
      const first = await a.events();
      const guest = await scene.guest();
      const came = await a.events();
      await scene.remove(guest);
      return [first.sort(), came, await a.events()];
    },
    expected: [['@introduceDomain|in', '@releaseDomain|out'], ['@introduceDomain|in'], ['@releaseDomain|out']],
  },
  {
    name: 'other names with @ cannot be watched',
    run: async ({ a }) => [await a.watch('@nothing', 't'), await a.unwatch('@nothing', 't')],
    expected: ['OK', 'OK'],
  },
  {
    name: 'a domain is not told of what it may not read',
    guests: true,
    run: async (scene) => {
      const { wire, domid } = await scene.guest();
      await scene.a.write('/case/secret', '1');
      await scene.a.write('/case/open', '1');
      await scene.a.permit('/case/open', 'n0', `r${domid}`);
      await wire.watch('/case', 't');
      const first = await wire.events();
      await scene.a.write('/case/secret', '2');
      await scene.a.write('/case/open', '2');
      await scene.a.write('/case/secret/new', '2');
      return [first, await wire.events()];
    },
    expected: [['/case|t'], ['/case/open|t']],
  },
  {
    name: 'a domain is told when what it could read is removed',
    guests: true,
    run: async (scene) => {
      const { wire, domid } = await scene.guest();
      await scene.a.write('/case/open', '1');
      await scene.a.permit('/case/open', 'n0', `r${domid}`);
      await wire.watch('/case/open', 't');
      await wire.events();
      await scene.a.remove('/case/open');
      return wire.events();
    },
    expected: ['/case/open|t'],
  },
  {
    name: 'a domain is told of its home by relative paths',
    guests: true,
    run: async (scene) => {
      const { wire, home } = await scene.guest();
      await wire.watch('device', 't');
      await wire.watch(home, 'all');
      await wire.events();
      await scene.a.write(`${home}/device/x`, '1');
      return (await wire.events()).sort();
    },
    expected: ['/local/domain/G/device/x|all', 'device/x|t'],
  },
  {
    name: 'a domain is not told of other domains',
    guests: true,
    run: async (scene) => {
      const { wire } = await scene.guest();
      const replies = [await wire.watch('@introduceDomain', 'in'), await wire.watch('@releaseDomain', 'out')];
      await wire.events();
      await scene.guest();
      return [replies, await wire.events()];
    },
    expected: [['OK', 'OK'], []],
  },
  {
    name: 'watches end with their connection',
    run: async (scene) => {
      const other = await scene.open();
      await other.watch('/case', 't');
      await other.close();
      return [await scene.a.write('/case', '1'), await scene.a.read('/case')];
    },
    expected: ['OK', '1'],
  },
  {
    name: 'many events are not lost',
    run: async ({ a, b }) => {
      await a.watch('/case', 't');
      await a.events();
      await Promise.all(Array.from({ length: 500 }, (_, i) => b.write(`/case/${i}`, 'x')));
      const events = await a.events();
      return [events.length, new Set(events).size];
    },
    expected: [500, 500],
  },
];
