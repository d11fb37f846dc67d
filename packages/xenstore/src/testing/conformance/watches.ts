import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';

/** Which changes fire a watch, with which path, and how watches are registered. */
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
];
