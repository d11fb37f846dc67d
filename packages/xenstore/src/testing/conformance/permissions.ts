import { XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';
import type { Guest, Scene } from './scene.js';

/** How many of `count` requests, one after the other, are done, and what the first refused one says. */
async function fill(count: number, request: (index: number) => Promise<string>): Promise<[number, string]> {
  for (let index = 0; index < count; index++) {
    const reply = await request(index);
    if (reply !== 'OK' && !/^\d+\|$/.test(reply)) return [index, reply];
  }
  return [count, 'OK'];
}

async function withShared(scene: Scene, ...permissions: string[]): Promise<Guest> {
  const guest = await scene.guest();
  await scene.a.write('/case/shared', 'mine');
  await scene.a.permit('/case/shared', ...permissions.map((text) => text.replace('G', String(guest.domid))));
  return guest;
}

async function everyAccess({ wire }: Guest): Promise<string[]> {
  return [
    await wire.read('/case/shared'),
    await wire.list('/case/shared'),
    await wire.permissions('/case/shared'),
    await wire.write('/case/shared', 'theirs'),
    await wire.mkdir('/case/shared/child'),
    await wire.permit('/case/shared', 'b0'),
  ];
}

/** Who may do what, and how much of it. */
export const permissionCases: readonly ConformanceCase[] = [
  {
    name: 'a new node has the permissions of its parent',
    run: async ({ a }) => {
      await a.mkdir('/case');
      await a.permit('/case', 'r0', 'b5');
      await a.write('/case/x/y', '1');
      return [await a.permissions('/case'), await a.permissions('/case/x'), await a.permissions('/case/x/y')];
    },
    expected: ['r0|b5|', 'r0|b5|', 'r0|b5|'],
  },
  {
    name: 'domain 0 may give nodes away',
    guests: true,
    run: async (scene) => {
      const { a } = scene;
      const { domid } = await scene.guest();
      await a.write('/case/x', '1');
      const reply = await a.permit('/case/x', `n${domid}`, 'r8', 'w9');
      return [reply, await a.permissions('/case/x'), await a.read('/case/x')];
    },
    expected: ['OK', 'nG|r8|w9|', '1'],
  },
  {
    name: 'a node cannot be given to a domain that is not there',
    run: async ({ a }) => {
      await a.write('/case/x', '1');
      return [await a.permit('/case/x', 'n777'), await a.permissions('/case/x')];
    },
    expected: ['ENOENT', 'n0|'],
  },
  {
    name: 'permissions that are none are refused',
    run: async ({ a }) => {
      await a.mkdir('/case');
      return [await a.permit('/case', 'x0'), await a.permit('/case', 'r'), await a.permit('/case', 'rx')];
    },
    expected: ['EINVAL', 'EINVAL', 'EINVAL'],
  },
  {
    name: 'a domain does as it likes in its home, by relative paths too',
    guests: true,
    run: async (scene) => {
      const { wire, home } = await scene.guest();
      return [
        await wire.write('data/x', '1'),
        await wire.read(`${home}/data/x`),
        await wire.permissions('data/x'),
        await wire.permit('data/x', `n${home.slice(14)}`, 'r0'),
        await wire.remove('data'),
        await wire.list(home),
      ];
    },
    expected: ['OK', '1', 'nG|', 'OK', 'OK', ''],
  },
  {
    name: 'n: a domain may do nothing',
    guests: true,
    run: async (scene) => everyAccess(await withShared(scene, 'n0')),
    expected: ['EACCES', 'EACCES', 'EACCES', 'EACCES', 'EACCES', 'EACCES'],
  },
  {
    name: 'r: a domain may read',
    guests: true,
    run: async (scene) => everyAccess(await withShared(scene, 'n0', 'rG')),
    expected: ['mine', '', 'n0|rG|', 'EACCES', 'EACCES', 'EACCES'],
  },
  {
    name: 'w: a domain may write, not read',
    guests: true,
    run: async (scene) => everyAccess(await withShared(scene, 'n0', 'wG')),
    expected: ['EACCES', 'EACCES', 'EACCES', 'OK', 'OK', 'EACCES'],
  },
  {
    name: 'b: a domain may read and write, not permit',
    guests: true,
    run: async (scene) => everyAccess(await withShared(scene, 'n0', 'bG')),
    expected: ['mine', '', 'n0|bG|', 'OK', 'OK', 'EACCES'],
  },
  {
    name: 'the first entry says what everybody else may do',
    guests: true,
    run: async (scene) => everyAccess(await withShared(scene, 'r0', 'b99')),
    expected: ['mine', '', 'r0|b99|', 'EACCES', 'EACCES', 'EACCES'],
  },
  {
    name: 'an owner may do everything but give its node away',
    guests: true,
    run: async (scene) => {
      const guest = await scene.guest();
      const { wire, domid } = guest;
      await wire.write('x', '1');
      return [await wire.permit('x', `r${domid}`, 'b0'), await wire.permit('x', 'n0'), await wire.permissions('x')];
    },
    expected: ['OK', 'EPERM', 'rG|b0|'],
  },
  {
    name: 'what a domain creates in a directory of domain 0 is its own',
    guests: true,
    run: async (scene) => {
      const { wire } = await withShared(scene, 'n0', 'bG');
      return [await wire.write('/case/shared/x', '1'), await scene.a.permissions('/case/shared/x')];
    },
    expected: ['OK', 'nG|bG|'],
  },
  {
    name: 'a domain may remove what it may write above of',
    guests: true,
    run: async (scene) => {
      const { wire } = await withShared(scene, 'n0', 'bG');
      await scene.a.write('/case/shared/x', '1');
      await scene.a.permit('/case/shared/x', 'n0');
      return [await wire.remove('/case/shared/x'), await wire.remove('/case/shared'), await wire.remove('/case/no')];
    },
    expected: ['EACCES', 'OK', 'EACCES'],
  },
  {
    name: 'a domain does not learn what there is where it may not read',
    guests: true,
    run: async (scene) => {
      const { wire } = await withShared(scene, 'n0');
      return [await wire.read('/case/no'), await wire.read('/case/shared/no'), await wire.write('/case/no/no', '1')];
    },
    expected: ['EACCES', 'EACCES', 'EACCES'],
  },
  {
    name: 'the requests of a toolstack are for domain 0',
    guests: true,
    run: async (scene) => {
      const { wire, domid } = await scene.guest();
      const self = String(domid);
      return [
        await wire.ask(XsOp.introduce, [self, '1', '1']),
        await wire.ask(XsOp.release, [self]),
        await wire.ask(XsOp.resume, [self]),
        await wire.ask(XsOp.setTarget, [self, '0']),
        await wire.ask(XsOp.control, ['help']),
        await wire.ask(XsOp.isDomainIntroduced, ['0']),
        await wire.ask(XsOp.getDomainPath, [self]),
      ];
    },
    expected: ['EACCES', 'EACCES', 'EACCES', 'EACCES', 'EACCES', 'EACCES', '/local/domain/G|'],
  },
  {
    name: 'a domain may have 1000 nodes',
    guests: true,
    run: async (scene) => {
      const { wire } = await scene.guest();
      return fill(1100, (index) => wire.mkdir(`${index % 20}/${index}`));
    },
    expected: [979, 'ENOSPC'],
  },
  {
    name: 'a node of a domain may have 2048 bytes',
    guests: true,
    run: async (scene) => {
      const { wire } = await scene.guest();
      return [await wire.write('x', 'v'.repeat(1900)), await wire.write('x', 'v'.repeat(2049))];
    },
    expected: ['OK', 'ENOSPC'],
  },
  {
    name: 'a domain may have 128 watches',
    guests: true,
    run: async (scene) => {
      const { wire } = await scene.guest();
      return fill(200, (index) => wire.watch('x', `t${index}`));
    },
    expected: [129, 'E2BIG'],
  },
  {
    name: 'a domain may have 10 transactions open',
    guests: true,
    run: async (scene) => {
      const { wire } = await scene.guest();
      return fill(20, () => wire.ask(XsOp.transactionStart, ['']));
    },
    expected: [11, 'ENOSPC'],
  },
  {
    name: 'a node of a domain may have 5 permissions',
    guests: true,
    run: async (scene) => {
      const { wire, domid } = await scene.guest();
      await wire.mkdir('x');
      const entries = [1, 2, 3, 4, 5].map((other) => `r${other}`);
      return [
        await wire.permit('x', `n${domid}`, ...entries.slice(0, 4)),
        await wire.permit('x', `n${domid}`, ...entries),
      ];
    },
    expected: ['OK', 'ENOSPC'],
  },
  {
    name: 'the nodes of a domain go with it, what it was permitted stays',
    guests: true,
    run: async (scene) => {
      const guest = await withShared(scene, 'n0', 'rG');
      await guest.wire.write('x', '1');
      await scene.remove(guest);
      return [await scene.a.permissions('/case/shared'), await scene.a.permissions(`${guest.home}/x`)];
    },
    expected: ['n0|rG|', 'ENOENT'],
  },
];
