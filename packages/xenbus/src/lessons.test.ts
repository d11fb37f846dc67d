/** What QEMU's backend had to learn about xenstore: docs/faults.md lists it. */
import { XenstoreClient, XsOp } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { expect, it, onTestFinished, vi } from 'vitest';
import { BackendBus } from './bus.js';
import { backendPath } from './paths.js';
import { XenbusState as S } from './states.js';
import { createDevice, frontendPath, removeDevice } from './toolstack/halves.js';

const GUEST = 5;
const HEADER_BYTES = 16;
const address = { type: 'toy', domid: GUEST, devid: 7 };
const device = { backendDomid: 0, address, frontendType: 'toy' };
const back = backendPath(0, address);
const front = frontendPath(address, 'toy');
const CHANGES: readonly number[] = [XsOp.write, XsOp.mkdir, XsOp.remove, XsOp.setPermissions];

/** A bus, with all that it says to xenstored: a message's number and path each. */
async function listenTo() {
  const xenstored = new EmulatedXenstored();
  xenstored.introduceDomain(GUEST);
  const transport = xenstored.connect(0);
  const said: { op: number; path: string }[] = [];
  const send = transport.send.bind(transport);
  Object.assign(transport, {
    send: (message: Uint8Array) => {
      const bytes = Buffer.from(message);
      const [path] = bytes.toString('latin1', HEADER_BYTES).split('\0');
      said.push({ op: bytes.readUInt32LE(0), path });
      send(message);
    },
  });
  const store = XenstoreClient.open(transport);
  const dom0 = XenstoreClient.open(xenstored.connect(0));
  const guest = XenstoreClient.open(xenstored.connect(GUEST));
  const bus = await BackendBus.start({
    store,
    types: ['toy'],
    ownDomid: 0,
    createHandler: () => ({
      prepare: async () => ({ 'max-toys': 3 }),
      connect: async () => ({ toys: 2 }),
      disconnect: async () => {},
      close: async () => {},
    }),
  });
  onTestFinished(async () => {
    await bus.close();
    for (const client of [guest, dom0, store]) await client.close();
    await xenstored.close();
  });
  const backendIs = (state: S) =>
    vi.waitFor(async () => expect(await dom0.tryRead(`${back}/state`)).toBe(String(state)));
  const frontend = (state: S) => guest.write(`${front}/state`, state);
  return { bus, said, dom0, backendIs, frontend };
}

const within = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`);

it('QEMU 705be57094: what the frontend has in xenstore is never written by the backend', async () => {
  const { bus, said, dom0, backendIs, frontend } = await listenTo();
  await createDevice(dom0, { ...device, backendValues: {}, frontendValues: {} });
  await backendIs(S.initWait);
  await frontend(S.initialised);
  await backendIs(S.connected);
  await frontend(S.closing);
  await frontend(S.closed);
  await backendIs(S.closed);
  await frontend(S.initialising);
  await backendIs(S.initWait);
  const removal = removeDevice(dom0, device);
  await frontend(S.closed);
  await removal;
  await vi.waitFor(() => expect([...bus.devices]).toEqual([]));
  const changed = said.filter(({ op }) => CHANGES.includes(op)).map(({ path }) => path);
  expect(changed).toContain(`${back}/state`);
  expect(changed.filter((path) => within(path, front))).toEqual([]);
});

it('QEMU c4583c8c39: no watch is on more than its own devices and their frontends', async () => {
  const { bus, said, dom0, backendIs } = await listenTo();
  await createDevice(dom0, { ...device, backendValues: {}, frontendValues: {} });
  await backendIs(S.initWait);
  const allowed = ['/local/domain/0/backend/toy', 'backend/toy', front, '@releaseDomain', '@introduceDomain'];
  const watched = said.filter(({ op }) => op === XsOp.watch).map(({ path }) => path);
  expect(watched.length).toBeGreaterThan(1);
  expect(watched.filter((path) => !allowed.some((folder) => within(path, folder)))).toEqual([]);
  // What others have changed is nothing that it looks at.
  const before = said.length;
  for (let i = 0; i < 50; i++) await dom0.write(`/local/domain/0/backend/other/${GUEST}/${i}/state`, 4);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(said.slice(before)).toEqual([]);
  expect([...bus.devices]).toHaveLength(1);
});
