import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';

function pathOf(bytes: number): string {
  return '/case/'.padEnd(bytes, 'x');
}

/** Values, directories, removal, the rules of paths. */
export const nodeCases: readonly ConformanceCase[] = [
  {
    name: 'a value is read back as it was written',
    run: async ({ a, b }) => [await a.write('/case/x', 'one two'), await a.read('/case/x'), await b.read('/case/x')],
    expected: ['OK', 'one two', 'one two'],
  },
  {
    name: 'a value may be any bytes',
    run: async ({ a }) => [await a.write('/case/x', Uint8Array.of(0, 255, 10, 0)), await a.read('/case/x')],
    expected: ['OK', '|\u00ff\n|'],
  },
  {
    name: 'a value may be empty',
    run: async ({ a }) => [await a.write('/case/x', ''), await a.read('/case/x')],
    expected: ['OK', ''],
  },
  {
    name: 'a write replaces the whole value',
    run: async ({ a }) => [await a.write('/case/x', 'long'), await a.write('/case/x', 's'), await a.read('/case/x')],
    expected: ['OK', 'OK', 's'],
  },
  {
    name: 'a write creates what is missing above, empty',
    run: async ({ a }) => [await a.write('/case/x/y/z', '1'), await a.read('/case/x'), await a.list('/case/x')],
    expected: ['OK', '', 'y|'],
  },
  {
    name: 'a write keeps the children',
    run: async ({ a }) => [await a.write('/case/x/y', '1'), await a.write('/case/x', '2'), await a.list('/case/x')],
    expected: ['OK', 'OK', 'y|'],
  },
  {
    name: 'what does not exist is ENOENT',
    run: async ({ a }) => [
      await a.read('/case/no'),
      await a.list('/case/no'),
      await a.permissions('/case/no'),
      await a.permit('/case/no', 'n0'),
      await a.read('/case/no/no'),
    ],
    expected: ['ENOENT', 'ENOENT', 'ENOENT', 'ENOENT', 'ENOENT'],
  },
  {
    name: 'mkdir creates an empty node and what is missing above',
    run: async ({ a }) => [await a.mkdir('/case/x/y'), await a.read('/case/x/y'), await a.list('/case')],
    expected: ['OK', '', 'x|'],
  },
  {
    name: 'mkdir leaves a node that exists as it is',
    run: async ({ a }) => [await a.write('/case/x', '1'), await a.mkdir('/case/x'), await a.read('/case/x')],
    expected: ['OK', 'OK', '1'],
  },
  {
    name: 'a listing has the names of the children only',
    run: async ({ a }) => {
      for (const name of ['c', 'a', 'b', 'a/deep']) await a.mkdir(`/case/${name}`);
      return [...(await a.list('/case')).split('|').sort(), await a.list('/case/b')];
    },
    expected: ['', 'a', 'b', 'c', ''],
  },
  {
    name: 'rm removes the node and all below',
    run: async ({ a }) => {
      await a.write('/case/x/y/z', '1');
      return [await a.remove('/case/x'), await a.read('/case/x'), await a.read('/case/x/y/z'), await a.list('/case')];
    },
    expected: ['OK', 'ENOENT', 'ENOENT', ''],
  },
  {
    name: 'rm of a missing node is fine when its parent exists',
    run: async ({ a }) => [await a.mkdir('/case'), await a.remove('/case/no'), await a.remove('/case/no/no')],
    expected: ['OK', 'OK', 'ENOENT'],
  },
  {
    name: 'rm of the root is refused',
    run: async ({ a }) => [await a.remove('/')],
    expected: ['EINVAL'],
  },
  {
    name: 'what is removed comes back empty',
    run: async ({ a }) => {
      await a.write('/case/x/y', '1');
      await a.remove('/case/x');
      return [await a.mkdir('/case/x'), await a.list('/case/x')];
    },
    expected: ['OK', ''],
  },
  {
    name: 'a listing of more than 4096 bytes',
    run: async ({ a }) => {
      await Promise.all(Array.from({ length: 300 }, (_, i) => a.mkdir(`/case/a-child-with-a-name-${i + 1000}`)));
      const reply = await a.list('/case');
      return reply.length > 100 ? `${reply.length} bytes` : reply;
    },
    expected: 'E2BIG',
  },
  {
    name: 'a listing in parts',
    run: async ({ a }) => {
      await Promise.all(Array.from({ length: 300 }, (_, i) => a.mkdir(`/case/a-child-with-a-name-${i + 1000}`)));
      const names: string[] = [];
      for (let offset = 0; ; ) {
        const part = await a.ask(XsOp.directoryPart, ['/case', String(offset)]);
        if (!part.includes('|')) return part;
        const list = part.slice(part.indexOf('|') + 1);
        offset += list.length;
        names.push(...list.split('|').filter(Boolean));
        if (list === '|' || list.endsWith('||')) return `${new Set(names).size} names, ${offset} bytes`;
      }
    },
    expected: '300 names, 7501 bytes',
  },
  {
    name: 'a listing in parts of a small directory comes in one',
    run: async ({ a }) => {
      await a.mkdir('/case/x');
      const part = await a.ask(XsOp.directoryPart, ['/case', '0']);
      const end = await a.ask(XsOp.directoryPart, ['/case', '2']);
      return [part.replace(/^\d+/, 'N'), end.replace(/^\d+/, 'N')];
    },
    expected: ['N|x||', 'N||'],
  },
  {
    name: 'paths that are none are refused',
    run: async ({ a }) => {
      const replies = [];
      for (const path of ['/case//x', '/case/', '/case/a b', '/case/a.b', '/case/\u00e4', '', '/case/x\ty']) {
        replies.push(await a.write(path, '1'));
      }
      return replies;
    },
    expected: Array(7).fill('EINVAL'),
  },
  {
    name: 'letters, digits and - / _ @ are the characters of a path',
    run: async ({ a }) => [await a.write('/case/aZ09-_@', '1'), await a.read('/case/aZ09-_@')],
    expected: ['OK', '1'],
  },
  {
    name: 'a path may have 2048 bytes',
    run: async ({ a }) => [await a.read(pathOf(2048)), await a.read(pathOf(2049)), await a.read(pathOf(3073))],
    expected: ['ENOENT', 'EINVAL', 'EINVAL'],
  },
  {
    name: 'a path below a home may have 2048 bytes there',
    run: async ({ a }) => [
      await a.read(`/local/domain/0${pathOf(2049)}`),
      await a.read(`/local/domain/0${pathOf(2050)}`),
    ],
    expected: ['ENOENT', 'EINVAL'],
  },
  {
    name: 'a relative path begins at the home of the domain',
    run: async ({ a }) => {
      await a.write('/local/domain/0/case-relative', '1');
      const reply = await a.read('case-relative');
      await a.remove('/local/domain/0/case-relative');
      return reply;
    },
    expected: '1',
  },
  {
    name: 'a relative path may have 2048 bytes and no more',
    run: async ({ a }) => [await a.read('r'.repeat(2048)), await a.read('r'.repeat(2049))],
    expected: ['ENOENT', 'EINVAL'],
  },
  {
    name: 'the root is there',
    run: async ({ a }) => [await a.read('/'), (await a.mkdir('/case')) && (await a.list('/')).includes('case|')],
    expected: ['', true],
  },
];
