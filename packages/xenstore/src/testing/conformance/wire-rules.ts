import { encodeStrings, XsOp } from '../../wire/wire.js';
import type { ConformanceCase } from './case.js';
import type { Scene } from './scene.js';

/** Asks each on a connection of its own, because a server may never answer again. */
function each(scene: Scene, requests: readonly (readonly [number, Uint8Array])[]): Promise<string[]> {
  return Promise.all(requests.map(async ([type, payload]) => (await scene.open()).ask(type, payload)));
}

/** What holds for every message, and the requests about domains and the daemon. */
export const wireCases: readonly ConformanceCase[] = [
  {
    name: 'requests that are sent at once are answered each, in order',
    run: async ({ a }) => {
      await a.mkdir('/case');
      const order: number[] = [];
      const asked = Array.from({ length: 200 }, async (_, i) => {
        const reply = await a.write(`/case/${i % 7}`, `${i}`);
        order.push(i);
        return reply;
      });
      const replies = new Set(await Promise.all(asked));
      return [[...replies], order.every((value, index) => value === index), await a.read('/case/3')];
    },
    expected: [['OK'], true, '199'],
  },
  {
    name: 'an unknown request is ENOSYS',
    run: async ({ a }) => [await a.ask(20, ['/']), await a.ask(99, ['/']), await a.ask(0xffffffff, ['/'])],
    expected: ['ENOSYS', 'ENOSYS', 'ENOSYS'],
  },
  {
    name: 'what only a daemon sends is no request',
    run: async ({ a }) => [await a.ask(XsOp.watchEvent, ['/', 't']), await a.ask(XsOp.error, ['EINVAL'])],
    expected: ['ENOSYS', 'ENOSYS'],
  },
  {
    name: 'a request without its arguments is EINVAL',
    run: (scene) =>
      each(scene, [
        [XsOp.write, encodeStrings()],
        [XsOp.write, Buffer.from('/case')],
        [XsOp.watch, encodeStrings('/case')],
        [XsOp.unwatch, encodeStrings('/case')],
        [XsOp.setPermissions, encodeStrings('/case')],
        [XsOp.getDomainPath, encodeStrings()],
      ]),
    expected: Array(6).fill('EINVAL'),
  },
  {
    name: 'a path that does not end with a NUL is refused, by whatever error',
    run: async (scene) => {
      const replies = await each(scene, [
        [XsOp.read, Buffer.from('/')],
        [XsOp.directory, Buffer.from('/')],
      ]);
      return replies.map((reply) => (/^E[A-Z0-9]+$/.test(reply) ? 'refused' : reply));
    },
    expected: ['refused', 'refused'],
  },
  {
    name: 'a payload of 4096 bytes is taken',
    run: async ({ a }) => [await a.write('/case/x', 'v'.repeat(4088)), (await a.read('/case/x')).length],
    expected: ['OK', 4088],
  },
  {
    name: 'a payload of 4097 bytes is not',
    run: async ({ a }) => [await a.write('/case/x', 'v'.repeat(4089)), await a.read('/')],
    expected: ['closed', 'closed'],
  },
  {
    name: 'the home of a domain',
    run: async ({ a }) => [await a.ask(XsOp.getDomainPath, ['0']), await a.ask(XsOp.getDomainPath, ['77'])],
    expected: ['/local/domain/0|', '/local/domain/77|'],
  },
  {
    name: 'which domains are introduced',
    guests: true,
    run: async (scene) => {
      const { domid } = await scene.guest();
      const ask = (number: number | string) => scene.a.ask(XsOp.isDomainIntroduced, [String(number)]);
      return [await ask(0), await ask(domid), await ask(77)];
    },
    expected: ['T|', 'T|', 'F|'],
  },
  {
    name: 'domains that are not there cannot be released, resumed or targeted',
    run: async ({ a }) => [
      await a.ask(XsOp.release, ['77']),
      await a.ask(XsOp.resume, ['77']),
      await a.ask(XsOp.setTarget, ['77', '78']),
    ],
    expected: ['ENOENT', 'ENOENT', 'ENOENT'],
  },
  {
    name: 'features and quotas cannot be asked',
    run: (scene) =>
      each(scene, [
        [XsOp.getFeature, encodeStrings('0')],
        [XsOp.setFeature, encodeStrings('0', '0')],
        [XsOp.getQuota, encodeStrings('nodes')],
        [XsOp.setQuota, encodeStrings('nodes', '1000')],
      ]),
    expected: ['ENOSYS', 'ENOSYS', 'ENOSYS', 'ENOSYS'],
  },
  {
    name: 'a request with an empty payload is answered',
    run: async (scene) => {
      const other = await scene.open();
      const alone = await other.ask(XsOp.getFeature, []);
      const [followed] = await Promise.all([scene.a.ask(XsOp.getFeature, []), scene.a.read('/')]);
      return [alone, followed];
    },
    expected: ['ENOSYS', 'ENOSYS'],
  },
];
