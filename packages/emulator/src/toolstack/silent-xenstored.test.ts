import type { XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EmulatedHost } from '../host.js';
import { Toolstack } from './toolstack.js';

let host: EmulatedHost;
let store: XenstoreClient;
let driverDomid: number;
beforeAll(async () => {
  host = await EmulatedHost.create({ toolstackTimeoutMs: 5 });
  store = XenstoreClient.open(await host.provider().connectXenstore());
  driverDomid = (await host.createDomain({ name: 'storage', driverDomain: true, memoryMiB: 1 })).domid;
});
afterAll(async () => {
  await store.close();
  await host.close();
});

/** Lets `left` requests through; the others are never answered, which `silent` is told. */
function silentAfter(left: number, inner: XenstoreTransport, silent: () => void): XenstoreTransport {
  let sent = 0;
  return new Proxy(inner, {
    get(target, name) {
      if (name === 'send') return (bytes: Uint8Array) => (sent++ < left ? target.send(bytes) : silent());
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** How long a silence lasts before the signal aborts. */
const PATIENCE_MS = 5;
/** Longer than a test may take: what ends in time was ended by the signal. */
const TIMEOUT_MS = 3_600_000;

/** Goes along with what toolstacks want: InitWait for a new device, Closed for one that is to end, gone when forgotten. */
async function obey({ backendPath, frontendPath }: Record<'backendPath' | 'frontendPath', string>, end: AbortSignal) {
  const waiting = { signal: end };
  await store.waitFor(async (ops) => (await ops.tryRead(`${backendPath}/state`)) === '1' || undefined, waiting);
  await store.write(`${backendPath}/state`, 2, waiting);
  await store.waitFor(async (ops) => (await ops.tryRead(`${backendPath}/state`)) === '5' || undefined, waiting);
  await store.write(`${backendPath}/state`, 6, waiting);
  await store.waitFor(async (ops) => !(await ops.exists(frontendPath)) || undefined, waiting);
  await store.remove(backendPath, waiting);
}

const phy = { vdev: 'xvda', target: '/dev/null', backendType: 'phy' } as const;
type Call = (toolstack: Toolstack, domid: number, signal: AbortSignal) => Promise<unknown>;

/** The disk that the guest has when the call begins. */
type Disk = 'no disk' | 'a disk' | 'a disk of a driver domain';

/** Whether the call is done when xenstored falls silent after so many requests; else the signal has to end it. */
async function isDone(requests: number, disk: Disk, call: Call): Promise<boolean> {
  const { domid } = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const backendDomid = disk === 'a disk of a driver domain' ? driverDomid : 0;
  const backendPath = `/local/domain/${backendDomid}/backend/vbd/${domid}/51712`;
  const paths = { backendPath, frontendPath: `/local/domain/${domid}/device/vbd/51712` };
  const abort = new AbortController();
  const end = new AbortController();
  const obeyed = obey(paths, end.signal).catch(() => {});
  if (disk !== 'no disk') await new Toolstack(store, TIMEOUT_MS).attachDisk(domid, { ...phy, backendDomid });
  const giveUp = () => setTimeout(() => abort.abort(new Error('enough')), PATIENCE_MS);
  const own = XenstoreClient.open(silentAfter(requests, await host.provider().connectXenstore(), giveUp));
  try {
    await call(new Toolstack(own, TIMEOUT_MS), domid, abort.signal);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ message: 'enough' });
    return false;
  } finally {
    await own.close({ timeoutMs: 0 });
    end.abort();
    await obeyed;
    await host.destroyDomain(domid);
  }
}

it.each<[string, Disk, Call]>([
  ['attachDisk', 'no disk', (xl, domid, signal) => xl.attachDisk(domid, phy, { signal })],
  ['attachDevice', 'no disk', (xl, domid, signal) => xl.attachDevice(domid, { type: 'vtoy' }, { signal })],
  ['changeMedium', 'a disk', (xl, domid, signal) => xl.changeMedium(domid, 'xvda', 'z', { signal })],
  ['disks', 'a disk', (xl, domid, signal) => xl.disks(domid, { signal })],
  ['detachDisk', 'a disk', (xl, domid, signal) => xl.detachDisk(domid, 'xvda', { signal })],
  ['detachDisk by force', 'a disk', (xl, domid, signal) => xl.detachDisk(domid, 'xvda', { signal, force: true })],
  ['detachDisk', 'a disk of a driver domain', (xl, domid, signal) => xl.detachDisk(domid, 'xvda', { signal })],
  ['detachDevice', 'a disk', (xl, domid, signal) => xl.detachDevice(domid, 'vbd', 51712, { signal })],
  ['detachAll', 'a disk', (xl, domid, signal) => xl.detachAll(domid, { signal })],
  ['detachAll', 'a disk of a driver domain', (xl, domid, signal) => xl.detachAll(domid, { signal })],
])('wherever xenstored falls silent, the signal ends %s (%s)', async (_name, disk, call) => {
  let requests = 0;
  while (!(await isDone(requests, disk, call))) requests++;
  expect(requests).toBeGreaterThan(0);
});
