import { setImmediate as turn } from 'node:timers/promises';
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BackendBus } from './bus.js';
import type { BackendContext, BackendHandler } from './handler/handler.js';
import { backendPath } from './paths.js';
import { XenbusState } from './states.js';
import { createDevice, deleteDevice, frontendPath } from './toolstack/halves.js';

const address = { type: 'toy', domid: 5, devid: 7 };
const device = { backendDomid: 0, address, frontendType: 'toy' };
const back = backendPath(0, address);
const front = frontendPath(address, 'toy');

/** One change from outside, or a failure inside. */
type Event =
  | {
      readonly do:
        | 'create'
        | 'delete'
        | 'deleteFrontend'
        | 'fail'
        | 'hold'
        | 'breakConnect'
        | 'breakPrepare'
        | 'repair';
    }
  | { readonly do: 'frontend' | 'backend'; readonly state: XenbusState }
  | { readonly do: 'online'; readonly online: boolean }
  | { readonly do: 'wait'; readonly turns: number };

const RUNS = 100;
/** More than one action of a device takes. */
const MANY_TURNS = 40;

const anyState = fc.constantFrom(...Object.values(XenbusState));
const likelyState = fc.constantFrom(1, 3, 4, 5, 6) as fc.Arbitrary<XenbusState>;
const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('create' as const) }) },
  fc.record({
    do: fc.constantFrom('delete', 'deleteFrontend', 'fail', 'hold', 'breakConnect', 'breakPrepare', 'repair'),
  }),
  { weight: 8, arbitrary: fc.record({ do: fc.constant('frontend' as const), state: fc.oneof(likelyState, anyState) }) },
  fc.record({ do: fc.constant('backend' as const), state: fc.constantFrom(XenbusState.closing, XenbusState.closed) }),
  fc.record({ do: fc.constant('online' as const), online: fc.boolean() }),
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('wait' as const), turns: fc.integer({ min: 1, max: MANY_TURNS }) }),
  },
);

/** Until a device is Connected, unless something comes between. */
const BEGINNING: readonly Event[] = [
  { do: 'create' },
  { do: 'wait', turns: MANY_TURNS },
  { do: 'frontend', state: XenbusState.initialised },
  { do: 'wait', turns: MANY_TURNS },
];

interface World {
  readonly store: XenstoreClient;
  readonly handlers: SlowHandler[];
  broken: 'connect' | 'prepare' | undefined;
}

/** Takes a turn of the event loop for everything, and notes when a call begins before the last one ended. */
class SlowHandler implements BackendHandler {
  readonly calls: string[] = [];
  readonly context: BackendContext;
  readonly #world: World;
  #busy = false;

  constructor(context: BackendContext, world: World) {
    this.context = context;
    this.#world = world;
  }

  prepare = () => this.#do('prepare', { 'max-toys': 3 });
  connect = () => this.#do('connect', { toys: 2 });
  disconnect = async () => void (await this.#do('disconnect', {}));
  close = async () => void (await this.#do('close', {}));

  async #do<T>(call: 'prepare' | 'connect' | 'disconnect' | 'close', values: T): Promise<T> {
    this.calls.push(this.#busy ? `${call} (overlaps)` : call);
    this.#busy = true;
    await turn();
    this.#busy = false;
    if (this.#world.broken === call) throw new Error('broken');
    return values;
  }
}

async function carryOut(event: Event, world: World): Promise<void> {
  const { store, handlers } = world;
  switch (event.do) {
    case 'create':
      if (await store.exists(back)) return;
      return createDevice(store, { ...device, backendValues: {}, frontendValues: {} }).catch(() => {});
    case 'delete':
      return deleteDevice(store, device);
    case 'deleteFrontend':
      return store.remove(front);
    case 'frontend':
      return store.write(`${front}/state`, event.state);
    case 'backend':
      return ifThere(store, `${back}/state`, event.state);
    case 'online':
      return ifThere(store, `${back}/online`, event.online);
    case 'fail':
      return handlers.at(-1)?.context.fail(new Error('wrong'));
    case 'hold':
      return handlers.at(-1)?.context.hold(new Error('lost'));
    case 'wait':
      for (let i = 0; i < event.turns; i++) await turn();
      return;
    default:
      world.broken = { breakConnect: 'connect', breakPrepare: 'prepare', repair: undefined }[
        event.do
      ] as World['broken'];
  }
}

async function ifThere(store: XenstoreClient, path: string, value: number | boolean): Promise<void> {
  await store.transaction(async (tx) => {
    if (await tx.exists(path)) await tx.write(path, value);
  });
}

/** Opened once, disconnected after each connect and before the end, closed once. */
const A_LIFE = /^prepare(( connect)? disconnect)+ close$/;

it('whatever comes, a handler is called for one thing at a time, in the order of a life', async () => {
  let connects = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(anyEvent, { maxLength: 40 }), async (events) => {
      const xenstored = new EmulatedXenstored();
      const store = XenstoreClient.open(xenstored.connect(0));
      const outside = XenstoreClient.open(xenstored.connect(0));
      const world: World = { store: outside, handlers: [], broken: undefined };
      const createHandler = (context: BackendContext) => {
        const handler = new SlowHandler(context, world);
        world.handlers.push(handler);
        return handler;
      };
      const bus = await BackendBus.start({ store, types: ['toy'], ownDomid: 0, createHandler });
      for (const event of [...BEGINNING, ...events]) await carryOut(event, world);
      await deleteDevice(outside, device);
      while ([...bus.devices].length > 0) await turn();
      expect(await outside.exists(back)).toBe(false);
      for (const { calls } of world.handlers) expect(calls.join(' ')).toMatch(A_LIFE);
      connects += world.handlers.flatMap(({ calls }) => calls).filter((call) => call === 'connect').length;
      await bus.close();
      await Promise.all([store.close(), outside.close()]);
      await xenstored.close();
    }),
    { numRuns: RUNS },
  );
  expect(connects).toBeGreaterThan(RUNS / 2);
}, 30_000);
