import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './run.js';

/** When watches fire, and what they tell. */
export const watchCases: readonly ConformanceCase[] = [
  {
    name: 'a watch fires once at once, missing node or not',
    run: async ({ a }) => {
      await a.watch('/case/no', 't');
      return a.events();
    },
    expected: ['/case/no|t'],
  },
  {
    name: 'the first event and the reply to WATCH',
    run: async ({ a }) => {
      await a.watch('/case', 't');
      return a.log();
    },
    expected: ['reply OK', 'event /case|t'],
  },
  {
    name: 'the event of an own write and its reply',
    run: async ({ a }) => {
      await a.watch('/case', 't');
      await a.log();
      await a.write('/case', '1');
      return a.log();
    },
    expected: ['event /case|t', 'reply OK'],
  },
  {
    name: 'a watch fires for the node and all below',
    run: async ({ a, b }) => {
      await a.watch('/case/x', 't');
      await a.events();
      for (const path of ['/case/x', '/case/x/y', '/case/x/y/z', '/case', '/case/xy', '/case/other']) {
        await b.write(path, '1');
      }
      return a.events();
    },
    expected: ['/case/x|t', '/case/x/y|t', '/case/x/y/z|t'],
  },
  {
    name: 'a watch on the root sees everything',
    run: async ({ a, b }) => {
      await a.watch('/', 't');
      await a.events();
      await b.write('/case/x/y', '1');
      return a.events();
    },
    expected: ['/case/x/y|t'],
  },
  {
    name: 'the same value written again fires',
    run: async ({ a, b }) => {
      await b.write('/case/x', '1');
      await a.watch('/case/x', 't');
      await a.events();
      await b.write('/case/x', '1');
      return a.events();
    },
    expected: ['/case/x|t'],
  },
  {
    name: 'mkdir fires when it creates',
    run: async ({ a, b }) => {
      await a.watch('/case', 't');
      await a.events();
      await b.mkdir('/case/x');
      await b.mkdir('/case/x');
      return a.events();
    },
    expected: ['/case/x|t'],
  },
  {
    name: 'permissions fire',
    run: async ({ a, b }) => {
      await b.mkdir('/case/x');
      await a.watch('/case', 't');
      await a.events();
      await b.permit('/case/x', 'r0');
      return a.events();
    },
    expected: ['/case/x|t'],
  },
  {
    name: 'a removed tree is one event above, and one for each watch inside',
    run: async ({ a, b }) => {
      await b.write('/case/x/y/z', '1');
      await b.write('/case/x/w', '1');
      await a.watch('/case', 'above');
      await a.watch('/case/x', 'at');
      await a.watch('/case/x/y/z', 'inside');
      await a.watch('/case/x/no', 'missing');
      await a.events();
      await b.remove('/case/x');
      return (await a.events()).sort();
    },
    expected: ['/case/x/y/z|inside', '/case/x|above', '/case/x|at'],
  },
  {
    name: 'the removal of a parent is told with the path of the watch',
    run: async ({ a, b }) => {
      await b.write('/case/x/y', '1');
      await a.watch('/case/x/y', 't');
      await a.events();
      await b.remove('/case');
      return a.events();
    },
    expected: ['/case/x/y|t'],
  },
  {
    name: 'rm of a missing node fires nothing',
    run: async ({ a, b }) => {
      await b.mkdir('/case');
      await a.watch('/case', 't');
      await a.events();
      await b.remove('/case/no');
      return a.events();
    },
    expected: [],
  },
  {
    name: 'a relative watch tells relative paths',
    run: async ({ a, b }) => {
      await a.watch('case-relative', 't');
      const first = await a.events();
      await b.write('/local/domain/0/case-relative/x', '1');
      await b.remove('/local/domain/0/case-relative');
      return [first, await a.events()];
    },
    expected: [['case-relative|t'], ['case-relative/x|t', 'case-relative|t']],
  },
  {
    name: 'the same path and token twice is EEXIST',
    run: async ({ a }) => [await a.watch('/case', 't'), await a.watch('/case', 't'), await a.watch('/case', 'u')],
    expected: ['OK', 'EEXIST', 'OK'],
  },
  {
    name: 'the same token on two paths, two connections',
    run: async ({ a, b }) => [await a.watch('/case', 't'), await a.watch('/case/x', 't'), await b.watch('/case', 't')],
    expected: ['OK', 'OK', 'OK'],
  },
  {
    name: 'unwatch takes the path, then the token',
    run: async ({ a }) => {
      await a.watch('/case', 't');
      return [await a.unwatch('t', '/case'), await a.unwatch('/case', 'u'), await a.unwatch('/case', 't')];
    },
    expected: ['ENOENT', 'ENOENT', 'OK'],
  },
  {
    name: 'after unwatch nothing fires',
    run: async ({ a, b }) => {
      await a.watch('/case', 't');
      await a.unwatch('/case', 't');
      await a.events();
      await b.write('/case/x', '1');
      return [await a.events(), await a.unwatch('/case', 't')];
    },
    expected: [[], 'ENOENT'],
  },
  {
    name: 'RESET_WATCHES ends all watches of the connection',
    run: async ({ a, b }) => {
      await a.watch('/case', 't');
      await b.watch('/case', 't');
      await a.events();
      await b.events();
      const reply = await a.ask(XsOp.resetWatches, ['']);
      await b.write('/case', '1');
      return [reply, await a.events(), await b.events()];
    },
    expected: ['OK', [], ['/case|t']],
  },
  {
    name: 'paths that are none cannot be watched',
    run: async ({ a }) => [await a.watch('/case//x', 't'), await a.watch('/case/', 't'), await a.watch('', 't')],
    expected: ['EINVAL', 'EINVAL', 'EINVAL'],
  },
  {
    name: 'a token may be anything, empty too',
    run: async ({ a }) => {
      const replies = [await a.watch('/case', ''), await a.watch('/case', 'a b/c:d')];
      return [...replies, (await a.events()).sort()];
    },
    expected: ['OK', 'OK', ['/case|', '/case|a b/c:d']],
  },
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
