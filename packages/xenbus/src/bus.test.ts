import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackendBus, type BackendBusOptions } from './bus.js';
import type { DeviceStateEvent, FrontendStateEvent } from './diagnostics.js';
import { errorNodePath } from './error-nodes/error-node.js';
import type { BackendContext, BackendHandler, KeyTexts } from './handler/handler.js';
import { backendPath } from './paths.js';
import { parseState, XenbusState as S, stateName } from './states.js';
import { createDevice, deleteDevice, frontendPath, removeDevice, unplugDevice } from './toolstack/halves.js';

const GUEST = 5;
const address = { type: 'toy', domid: GUEST, devid: 7 };
const device = { backendDomid: 0, address, frontendType: 'toy' };
const back = backendPath(0, address);
const front = frontendPath(address, 'toy');

/** A backend that only remembers what was asked of it. */
class ToyBackend implements BackendHandler {
  readonly calls: string[] = [];
  readonly values: KeyTexts[] = [];
  readonly context: BackendContext;
  prepareError: Error | undefined;
  connectError: Error | undefined;
  /** How long closing takes. */
  closing: Promise<void> | undefined;

  constructor(context: BackendContext) {
    this.context = context;
  }

  async prepare(_: { offered: boolean }) {
    this.calls.push('prepare');
    if (this.prepareError) throw this.prepareError;
    return { 'max-toys': 3 };
  }

  async connect({ adopt }: { adopt: boolean }) {
    this.calls.push(adopt ? 'adopt' : 'connect');
    if (this.connectError) throw this.connectError;
    return { toys: 2 };
  }

  async disconnect() {
    this.calls.push('disconnect');
  }

  changed(values: KeyTexts) {
    this.values.push(values);
  }

  async close({ leave }: { leave: boolean }) {
    this.calls.push(leave ? 'leave' : 'close');
    await this.closing;
  }
}

let xenstored: EmulatedXenstored;
let dom0: XenstoreClient;
let guest: XenstoreClient;
let bus: BackendBus;
let toys: ToyBackend[];
/** Each state that the bus wrote, after the one that it found: `InitWait > Connected`. */
let written: string[];
/** The frontend's states as the bus saw them. */
let seen: string[];

const onState = (message: unknown) => {
  const { from, to } = message as DeviceStateEvent;
  written.push(`${from === undefined ? 'none' : stateName(from)} > ${stateName(to)}`);
};
const onFrontend = (message: unknown) => {
  seen.push(stateName((message as FrontendStateEvent).state));
};

beforeEach(async () => {
  toys = [];
  written = [];
  seen = [];
  subscribe('xenbus:device:state', onState);
  subscribe('xenbus:device:frontend', onFrontend);
  xenstored = new EmulatedXenstored();
  await xenstored.introduceDomain(GUEST);
  dom0 = XenstoreClient.open(xenstored.connect(0));
  guest = XenstoreClient.open(xenstored.connect(GUEST));
});

afterEach(async () => {
  unsubscribe('xenbus:device:state', onState);
  unsubscribe('xenbus:device:frontend', onFrontend);
  await bus?.close();
  await guest.close();
  await dom0.close();
  await xenstored.close();
});

async function startBus(options: Partial<BackendBusOptions> & { fail?: Partial<ToyBackend> } = {}): Promise<void> {
  const { fail, ...rest } = options;
  bus = await BackendBus.start({
    store: dom0,
    types: ['toy'],
    ownDomid: 0,
    createHandler: (context) => {
      const toy = Object.assign(new ToyBackend(context), fail);
      toys.push(toy);
      return toy;
    },
    ...rest,
  });
}

const create = (at = address) =>
  createDevice(dom0, { ...device, address: at, backendValues: { colour: 'red' }, frontendValues: {} });

/** Resolves once the backend's state is `state`; the test's own timeout is the limit. */
const backendIs = (state: S | undefined, path = back) =>
  dom0.waitFor(async (ops) => {
    const text = await ops.tryRead(`${path}/state`);
    return (text === undefined ? undefined : parseState(text)) === state ? true : undefined;
  });

const backendGone = () => dom0.waitFor(async (ops) => ((await ops.exists(back)) ? undefined : true));
const noDevices = () => vi.waitFor(() => expect([...bus.devices]).toEqual([]));
const frontend = (state: S) => guest.write(`${front}/state`, state);

async function connected(): Promise<void> {
  await create();
  await backendIs(S.initWait);
  await frontend(S.initialised);
  await backendIs(S.connected);
  await frontend(S.connected);
}

describe('a device from creation to removal', () => {
  it('is served as the frontend goes through its states', async () => {
    await startBus();
    await create();
    await backendIs(S.initWait);
    expect(await guest.read(`${back}/max-toys`)).toBe('3');
    expect(await dom0.exists(`${back}/toys`)).toBe(false);
    await frontend(S.initialised);
    await backendIs(S.connected);
    expect(await guest.read(`${back}/toys`)).toBe('2');
    await frontend(S.connected);
    await frontend(S.closing);
    await backendIs(S.closing);
    await frontend(S.closed);
    await backendIs(S.closed);
    expect(toys[0].calls).toEqual(['prepare', 'connect', 'disconnect']);
    expect(written).toEqual([
      'Initialising > InitWait',
      'InitWait > Connected',
      'Connected > Closing',
      'Closing > Closed',
    ]);
  });

  it('is adopted when it was there before', async () => {
    await create();
    await startBus();
    await backendIs(S.initWait);
  });

  it('is adopted though the frontend is ahead', async () => {
    await create();
    await frontend(S.initialised);
    await startBus();
    await backendIs(S.connected);
  });

  it('QEMU 67bc8e00f7: comes back after Closed while it is online, when the frontend begins', async () => {
    await startBus();
    await connected();
    await frontend(S.closed);
    await backendIs(S.closed);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await dom0.read(`${back}/state`)).toBe('6');
    await frontend(S.initialising);
    await backendIs(S.initWait);
    await frontend(S.initialised);
    await backendIs(S.connected);
    expect(toys[0].calls).toEqual(['prepare', 'connect', 'disconnect', 'connect']);
  });

  it('is opened with what an earlier process offered while that binds, and offered anew with each InitWait', async () => {
    const offered: boolean[] = [];
    let toysOfNext = 0;
    const fail = {
      prepare: async (options: { offered: boolean }) => {
        offered.push(options.offered);
        return { 'max-toys': 3 };
      },
      offer: () => ({ 'max-toys': ++toysOfNext }),
    };
    await startBus({ fail });
    await connected();
    await bus.close();
    await startBus({ fail });
    await vi.waitFor(() => expect(offered).toEqual([false, true]));
    expect(await guest.read(`${back}/max-toys`)).toBe('3');
    await frontend(S.closed);
    await backendIs(S.closed);
    expect(await guest.read(`${back}/max-toys`)).toBe('3');
    await frontend(S.initialising);
    await backendIs(S.initWait);
    expect(await guest.read(`${back}/max-toys`)).toBe('1');
    await bus.close();
    // InitWait was written, and the frontend may have read it.
    await startBus({ fail });
    await vi.waitFor(() => expect(offered).toEqual([false, true, true]));
  });

  it('QEMU cb32314607: ends when the toolstack says so and the frontend agrees', async () => {
    await startBus();
    await connected();
    const removal = removeDevice(dom0, device);
    await dom0.waitFor(async (ops) => ((await ops.tryRead(`${back}/online`)) === '0' ? true : undefined));
    expect(toys[0].calls).toEqual(['prepare', 'connect']);
    await frontend(S.closed);
    await removal;
    // What is behind it was free before Closed was to be read.
    expect(toys[0].calls).toEqual(['prepare', 'connect', 'disconnect', 'close']);
    await noDevices();
  });

  /** Unplugs a device that was connected and does not let go yet. Resolves with what has it let go. */
  async function unplugSlowly(): Promise<() => void> {
    await startBus();
    await connected();
    let letGo = () => {};
    toys[0].closing = new Promise((resolve) => {
      letGo = resolve;
    });
    await unplugDevice(dom0, 0, address);
    await frontend(S.closed);
    return letGo;
  }

  it('is Closed when what is behind it has been let go of, which may take a while', async () => {
    const letGo = await unplugSlowly();
    await vi.waitFor(() => expect(toys[0].calls.at(-1)).toBe('close'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await dom0.read(`${back}/state`)).toBe('5');
    letGo();
    await backendIs(S.closed);
  });

  it('is Closed without it when that takes too long, and another one by its name waits for it', async () => {
    const letGo = await unplugSlowly();
    await expect.poll(() => dom0.read(`${back}/state`)).toBe('6');
    await dom0.remove(front);
    await dom0.remove(back);
    await create();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(toys).toHaveLength(1);
    letGo();
    await backendIs(S.initWait);
    expect(toys).toHaveLength(2);
  });

  it('is Closed at once when no frontend ever came', async () => {
    await startBus();
    await create();
    await backendIs(S.initWait);
    await removeDevice(dom0, device);
    await noDevices();
  });

  it('QEMU ef916ab3ec: is Closed when the frontend directory is gone, and let go of before', async () => {
    await startBus();
    await create();
    await backendIs(S.initWait);
    await dom0.remove(front);
    await backendIs(S.closed);
    expect(toys[0].calls).toEqual(['prepare', 'disconnect', 'close']);
    await unplugDevice(dom0, 0, address);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await dom0.read(`${back}/state`)).toBe('6');
  });

  it('answers Closing with Closed when the frontend directory is gone', async () => {
    await startBus();
    await create();
    await backendIs(S.initWait);
    await dom0.transaction(async (tx) => {
      await tx.remove(front);
      await tx.write(`${back}/online`, false);
      await tx.write(`${back}/state`, S.closing);
    });
    await backendIs(S.closed);
    expect(written).toEqual(['Initialising > InitWait', 'Closing > Closed']);
  });

  it('QEMU 3809f7583b: is released when its directory is deleted while it serves, and nothing is written again', async () => {
    await startBus();
    await connected();
    await dom0.remove(back);
    await noDevices();
    expect(toys[0].calls.slice(-2)).toEqual(['disconnect', 'close']);
    expect(await dom0.exists(back)).toBe(false);
  });

  it('is another device when it is deleted and created again', async () => {
    await startBus();
    await connected();
    await deleteDevice(dom0, device);
    await connected();
    expect(toys).toHaveLength(2);
    expect(toys[0].calls.at(-1)).toBe('close');
  });

  it('XSA-349: survives a frontend that toggles its state a thousand times', async () => {
    await startBus();
    await connected();
    const states = [S.closing, S.closed, S.initialising, S.initialised, S.connected];
    for (let i = 0; i < 1000; i++) await frontend(states[i % states.length]);
    await frontend(S.closed);
    await backendIs(S.closed);
    await frontend(S.initialising);
    await backendIs(S.initWait);
    await frontend(S.initialised);
    await backendIs(S.connected);
    const { calls } = toys[0];
    const connects = calls.filter((call) => call === 'connect').length;
    const disconnects = calls.filter((call, i) => call === 'disconnect' && calls[i - 1] === 'connect').length;
    expect([calls.at(-1), disconnects]).toEqual(['connect', connects - 1]);
    expect(calls.filter((call) => !/connect$/.test(call))).toEqual(['prepare']);
  });
});

describe('what can go wrong', () => {
  it('an error of prepare is in the error node, and the device Closing then Closed', async () => {
    await startBus({ fail: { prepareError: Object.assign(new Error('no such toy'), { code: 'ENOENT' }) } });
    await create();
    await backendIs(S.closed);
    expect(await dom0.read(`${errorNodePath(0, address)}/error`)).toBe('ENOENT no such toy');
    await removeDevice(dom0, device);
    await dom0.waitFor(async (ops) => ((await ops.exists(errorNodePath(0, address))) ? undefined : true));
  });

  it('an error of connect closes the device, and the frontend may try again', async () => {
    await startBus({ fail: { connectError: new Error('bad ring') } });
    await create();
    await backendIs(S.initWait);
    await frontend(S.initialised);
    await backendIs(S.closing);
    expect(await dom0.read(`${errorNodePath(0, address)}/error`)).toBe('EIO bad ring');
    toys[0].connectError = undefined;
    await frontend(S.closed);
    await backendIs(S.closed);
    await frontend(S.initialising);
    await backendIs(S.initWait);
    await frontend(S.initialised);
    await backendIs(S.connected);
    expect(await dom0.exists(errorNodePath(0, address))).toBe(false);
  });

  it('a frontend path outside the frontend domain is refused', async () => {
    await startBus();
    await create();
    await deleteDevice(dom0, device);
    await dom0.write(`${back}/frontend`, '/local/domain/6/device/toy/7');
    await dom0.write(`${back}/online`, 1);
    await dom0.write(`${back}/state`, 1);
    await backendIs(S.closed);
    expect(await dom0.read(`${errorNodePath(0, address)}/error`)).toMatch(/^EINVAL .*frontend is "\/local\/domain\/6/);
  });

  it('a failure while serving closes the device', async () => {
    await startBus();
    await connected();
    toys[0].context.fail(new Error('lost the storage'));
    await backendIs(S.closing);
    expect(await dom0.read(`${errorNodePath(0, address)}/error`)).toBe('EIO lost the storage');
  });

  it('other devices go on', async () => {
    await startBus();
    await connected();
    const other = { ...address, devid: 8 };
    await create(other);
    await backendIs(S.initWait, backendPath(0, other));
    toys[0].context.fail(new Error('broken'));
    await backendIs(S.closing);
    expect(await dom0.read(`${backendPath(0, other)}/state`)).toBe('2');
  });
});

describe('where the rules differ', () => {
  it.each([
    ['hotplug-status', 'connected'],
    ['physical-device', 'fe:3'],
    ['physical-device-path', '/dev/sm/backend/sr/vdi'],
  ])('Connected waits for the hotplug script, which says so with %s', async (key, value) => {
    await startBus({ hotplugTypes: ['toy'] });
    await create();
    await backendIs(S.initWait);
    await frontend(S.initialised);
    await vi.waitFor(() => expect(seen).toContain('Initialised'));
    await dom0.write(`${back}/marker`, 'x');
    await vi.waitFor(() => expect(toys[0].values.at(-1)).toMatchObject({ marker: 'x' }));
    expect(toys[0].calls).toEqual(['prepare']);
    await dom0.write(`${back}/${key}`, value);
    await backendIs(S.connected);
  });

  it('a driver domain deletes its own directory, and the empty one above it', async () => {
    await startBus({ removeDirectories: true });
    await connected();
    await unplugDevice(dom0, 0, address);
    await frontend(S.closed);
    await backendGone();
    expect(await dom0.exists('/local/domain/0/backend/toy/5')).toBe(false);
  });

  it('a stopped process leaves the device Connected, and the next takes it up', async () => {
    await startBus();
    await connected();
    await bus.close();
    expect(await dom0.read(`${back}/state`)).toBe('4');
    expect(toys[0].calls.slice(-2)).toEqual(['disconnect', 'leave']);
    await startBus();
    await vi.waitFor(() => expect(toys[1]?.calls).toContain('adopt'));
    expect(await dom0.read(`${back}/state`)).toBe('4');
  });

  it('changed keys are announced by writing the state again', async () => {
    await startBus();
    await connected();
    const watch = await guest.watch(`${back}/state`);
    await watch.next();
    await toys[0].context.update({ toys: 9 });
    await watch.next();
    expect(await guest.read(`${back}/toys`)).toBe('9');
    await watch.close();
  });
});

it('a thousand devices are served and removed', async () => {
  await startBus();
  const devices = Array.from({ length: 1000 }, (_, i) => ({ ...address, domid: 10 + (i % 20), devid: i }));
  for (let domid = 10; domid < 30; domid++) xenstored.introduceDomain(domid);
  for (const device of devices) await create(device);
  await Promise.all(devices.map((device) => backendIs(S.initWait, backendPath(0, device))));
  await dom0.remove('/local/domain/0/backend/toy');
  await noDevices();
  expect(toys.map((toy) => toy.calls.at(-1))).toEqual(Array(1000).fill('close'));
});
