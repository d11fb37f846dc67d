import { EmulatedHost, type EmulatedHostOptions, findFailingSeed } from '@xenpv/emulator';
import { type EventChannels, type FaultPlan, faultyProvider, type GrantTable, type XenProvider } from '@xenpv/xen-sys';
import { BackendBus, type BackendContext, type BackendHandler, XenbusState } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { expect, it } from 'vitest';

/** Yours, which you would import. This one doubles the number at byte 1 when byte 0, a count, is ahead of byte 2. */
class DoublingBackend implements BackendHandler {
  readonly #context: BackendContext;
  readonly #xen: XenProvider;
  #handles: { readonly grants: GrantTable; readonly events: EventChannels } | undefined;

  constructor(context: BackendContext, xen: XenProvider) {
    this.#context = context;
    this.#xen = xen;
  }

  async prepare() {
    return {};
  }

  async connect() {
    const { store, frontendPath, address } = this.#context;
    const ref = Number(await store.read(`${frontendPath}/page-ref`));
    const port = Number(await store.read(`${frontendPath}/event-channel`));
    const { grants, events } = (this.#handles = {
      grants: this.#xen.openGrantTable(),
      events: this.#xen.openEventChannels(),
    });
    const page = grants.map(address.domid, Uint32Array.of(ref), { writable: true }).page(0);
    const local = events.bindInterdomain(address.domid, port);
    events.listen((ports, count) => {
      const [asked = 0, number = 0, answered = 0] = page;
      if (asked !== answered) {
        page.set([number * 2, asked], 1);
        events.notify(local);
      }
      events.unmask(ports, count);
    });
    return {};
  }

  async disconnect() {
    this.#handles?.events.close();
    this.#handles?.grants.close();
  }

  async close() {}
}

/** A host with a guest, the backend over a provider with faults, and a frontend that asks it to double numbers. */
async function scene(plan: FaultPlan = {}, options: EmulatedHostOptions = {}) {
  const host = await EmulatedHost.create({ strict: true, ...options });
  const guest = await host.createDomain({ name: 'guest' });
  const xen = faultyProvider(host.provider(), plan);
  const store = XenstoreClient.open(await xen.connectXenstore());
  const createHandler = (context: BackendContext) => new DoublingBackend(context, xen);
  const bus = await BackendBus.start({ store, types: ['doubling'], createHandler });
  const { frontendPath, backendPath } = await host.toolstack.attachDevice(guest.domid, { type: 'doubling' });

  const front = XenstoreClient.open(await guest.provider.connectXenstore());
  const { refs, buffer, offsets } = guest.provider.openGrantAllocator().allocate(0, 1, { writable: true });
  const page = new Uint8Array(buffer, offsets[0], 3);
  const events = guest.provider.openEventChannels();
  const port = events.bindUnbound(0);
  await front.transaction(async (tx) => {
    await tx.write(`${frontendPath}/page-ref`, String(refs[0]));
    await tx.write(`${frontendPath}/event-channel`, port);
    await tx.write(`${frontendPath}/state`, XenbusState.initialised);
  });
  const backendIs = (state: XenbusState) =>
    front.waitFor(async (ops) => (await ops.read(`${backendPath}/state`)) === String(state) || undefined);
  const poke = () => events.notify(port);
  const double = (number: number) => {
    const [asked = 0] = page;
    page.set([asked + 1, number]);
    poke();
    return new Promise<number>((resolve) => {
      events.listen((ports, count) => {
        const [asked, result = 0, answered] = page;
        if (answered === asked) resolve(result);
        events.unmask(ports, count);
      });
    });
  };
  const end = async () => {
    await bus.close();
    await Promise.all([store.close(), front.close()]);
    expect(host.usage(0)).toMatchObject({ ports: 0, eventHandles: 0 });
    expect(guest.usage()).toMatchObject({ mapped: 0 });
    await host.close();
  };
  return { host, guest, xen, store, backendIs, double, poke, [Symbol.asyncDispose]: end };
}

it('doubles a number, and leaves nothing mapped or bound', async () => {
  await using s = await scene();
  await s.backendIs(XenbusState.connected);
  expect(await s.double(21)).toBe(42);
});

it('fails the device when its page cannot be mapped, and says why', async () => {
  await using s = await scene({ map: { at: 1, error: 'ENOMEM' } });
  await s.backendIs(XenbusState.closing);
  const error = `/local/domain/0/error/backend/doubling/${s.guest.domid}/0/error`;
  expect(await s.store.read(error)).toContain('gnttab.map: ENOMEM');
  expect(s.xen.unhit()).toEqual([]);
});

it('connects though transactions conflict', async () => {
  let commits = 0;
  await using s = await scene({}, { xenstored: { conflict: () => commits++ % 2 === 0 } });
  await s.backendIs(XenbusState.connected);
});

it('answers late if an event gets lost, and only once if one comes twice', async () => {
  await using s = await scene({ notify: { at: 1, times: Infinity, event: 'doubled' } });
  await s.backendIs(XenbusState.connected);
  using lost = s.host.faults.loseEvents({ domid: 0, at: 1 });
  const answer = s.double(21);
  expect(lost.hits).toBe(1);
  s.poke();
  expect(await answer).toBe(42);
});

it('doubles right whatever the order of events and watches', async () => {
  const doubles = async (seed: number) => {
    await using s = await scene({}, { seed });
    await s.backendIs(XenbusState.connected);
    expect(await s.double(21)).toBe(42);
  };
  expect(await findFailingSeed(doubles, { count: 20 })).toBe(undefined);
});
