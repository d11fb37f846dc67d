/**
 * A new kind of PV backend in one handler: no block device, no disk. Its frontend puts a line into a page that it
 * grants and sends an event; the backend makes the line upper case and sends one back.
 */
import { EmulatedHost } from '@xenpv/emulator';
import type { EventChannels, GrantMapping, GrantTable, XenProvider } from '@xenpv/xen-sys';
import {
  BackendBus,
  type BackendContext,
  type BackendHandler,
  createDevice,
  removeDevice,
  XenbusState,
} from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';

/** The page: length of the line in bytes (u32), then the line. */
const LINE = 4;

class ShoutBackend implements BackendHandler {
  readonly #context: BackendContext;
  readonly #grants: GrantTable;
  readonly #events: EventChannels;
  #page: GrantMapping | undefined;

  constructor(context: BackendContext, provider: XenProvider) {
    this.#context = context;
    this.#grants = provider.openGrantTable();
    this.#events = provider.openEventChannels();
  }

  async prepare() {
    return { 'max-line': 4096 - LINE };
  }

  async connect() {
    const { store, frontendPath, address } = this.#context;
    const [ref, port] = await Promise.all(
      ['page-ref', 'event-channel'].map(async (key) => Number(await store.read(`${frontendPath}/${key}`))),
    );
    this.#page = this.#grants.map(address.domid, Uint32Array.of(ref), { writable: true });
    const local = this.#events.bindInterdomain(address.domid, port);
    this.#events.listen((ports, count) => {
      this.#shout();
      this.#events.notify(local);
      this.#events.unmask(ports, count);
    });
    return {};
  }

  #shout(): void {
    const { buffer, offsets } = this.#page!;
    const page = Buffer.from(buffer, offsets[0], 4096);
    // The page is the guest's: its length is read once, and checked before it is used.
    const length = page.readUInt32LE(0);
    if (length > page.length - LINE) this.#context.fail(new Error(`a line of ${length} bytes`));
    else page.write(page.toString('utf8', LINE, LINE + length).toUpperCase(), LINE);
  }

  async disconnect() {
    this.#events.close();
    if (this.#page) this.#grants.unmap(this.#page);
    this.#page = undefined;
  }

  async close() {
    this.#grants.close();
  }
}

/** The other end, in a guest. */
async function shout(provider: XenProvider, line: string): Promise<string> {
  const store = XenstoreClient.open(await provider.connectXenstore());
  const directory = 'device/vshout/0';
  const backend = await store.read(`${directory}/backend`);
  const allocator = provider.openGrantAllocator();
  const events = provider.openEventChannels();
  const pages = allocator.allocate(0, 1, { writable: true });
  const page = Buffer.from(pages.buffer, pages.offsets[0], 4096);
  page.writeUInt32LE(page.write(line, LINE), 0);

  const answered = new Promise<void>((resolve) => events.listen(() => resolve()));
  const port = events.bindUnbound(0);
  await store.transaction(async (tx) => {
    await tx.write(`${directory}/page-ref`, pages.refs[0]);
    await tx.write(`${directory}/event-channel`, port);
    await tx.write(`${directory}/state`, XenbusState.initialised);
  });
  const connected = String(XenbusState.connected);
  await store.waitFor(async (ops) => (await ops.read(`${backend}/state`)) === connected || undefined);
  events.notify(port);
  await answered;
  const answer = page.toString('utf8', LINE, LINE + page.readUInt32LE(0));

  await store.write(`${directory}/state`, XenbusState.closed);
  const closed = String(XenbusState.closed);
  await store.waitFor(async (ops) => (await ops.read(`${backend}/state`)) === closed || undefined);
  events.close();
  allocator.close();
  await store.close();
  return answer;
}

const host = await EmulatedHost.create();
const guest = await host.createDomain({ name: 'guest' });
const store = XenstoreClient.open(await host.provider(0).connectXenstore());
const createHandler = (context: BackendContext) => new ShoutBackend(context, host.provider(0));
const bus = await BackendBus.start({ store, types: ['vshout'], createHandler });

const device = {
  backendDomid: 0,
  address: { type: 'vshout', domid: guest.domid, devid: 0 },
  frontendType: 'vshout',
};
await createDevice(store, { ...device, backendValues: {}, frontendValues: {} });
console.log(await shout(guest.provider, 'a whole backend, and no block device'));
await removeDevice(store, device);
await bus.close();
await store.close();
await host.close();
