/** A data plane's thread: it opens what its starter shares and does what it is told, in order for each ring. */
import { parentPort, threadId, workerData } from 'node:worker_threads';
import { ABIS } from '@xenpv/blkif';
import type { BlockImage } from '@xenpv/blockdev';
import { nameThread, type XenProvider } from '@xenpv/xen-sys';
import { errorMessage } from '@xenpv/xenbus';
import { failedChannel, overlookedChannel, type PlaneFailedEvent, type RingOverlookedEvent } from '../diagnostics.js';
import type { DiskGeometry } from '../disk-description.js';
import { codeOf, XenBlockError } from '../errors.js';
import { RingCounters } from '../plane/accounting/ring-counters.js';
import { DataPlane, type KeptRequests, type ServedRing } from '../plane/data-plane.js';
import type { RingListener } from '../plane/rings/ring-options.js';
import type {
  AttachedRing,
  ImageToShare,
  RingToServe,
  WorkerReply,
  WorkerRequest,
  WorkerStart,
  WorkerValue,
} from './messages.js';

interface OpenImage {
  readonly opening: Promise<BlockImage>;
  users: number;
}

interface WorkerRing {
  readonly served: ServedRing;
  image: number | undefined;
  /** What it was told last. */
  geometry: DiskGeometry;
}

const images = new Map<number, OpenImage>();
const rings = new Map<number, WorkerRing>();

function tell(message: WorkerReply): void {
  parentPort!.postMessage(message);
}

async function takeImage(shared: ImageToShare | undefined): Promise<BlockImage | undefined> {
  if (!shared) return undefined;
  let open = images.get(shared.key);
  if (!open) {
    open = { opening: attachSharedImage(shared), users: 0 };
    images.set(shared.key, open);
  }
  open.users++;
  return open.opening;
}

async function attachSharedImage({ image }: ImageToShare): Promise<BlockImage> {
  const { attachImage } = await import(image.module);
  return attachImage(image.data);
}

async function giveImage(key: number | undefined): Promise<void> {
  const open = key === undefined ? undefined : images.get(key);
  if (!open || --open.users > 0) return;
  images.delete(key!);
  await open.opening.then(
    (image) => image.close(),
    () => {},
  );
}

function listener(ring: number): RingListener {
  return {
    badRequest: (reason, count) => tell({ event: 'badRequest', ring, reason, count }),
    storageError: (failure, count) => tell({ event: 'storageError', ring, failure, count }),
    gaveUp: (request, count) => tell({ event: 'gaveUp', ring, request, count }),
    journalDropped: (reason) => tell({ event: 'journalDropped', ring, reason }),
    stopped: (failure) => tell({ event: 'stopped', ring, failure }),
    unsupported: (operation) => tell({ event: 'unsupported', ring, operation }),
    broken: ({ code, message }) => tell({ event: 'broken', ring, error: { code, message } }),
  };
}

async function attach(plane: DataPlane, options: RingToServe): Promise<AttachedRing> {
  const { ring, counters, abi, image, ...rest } = options;
  try {
    const served = plane.attach({
      ...rest,
      abi: ABIS[abi],
      image: await takeImage(image),
      counters: new RingCounters(counters),
      listener: listener(ring),
    });
    rings.set(ring, { served, image: image?.key, geometry: options.geometry });
    return { size: served.size, recovered: served.recovered };
  } catch (error) {
    await giveImage(image?.key);
    throw error;
  }
}

/** Returns how many requests the storage has still; their end is told. */
async function detach(ring: number, kept: KeptRequests): Promise<number> {
  const { served, image } = rings.get(ring)!;
  rings.delete(ring);
  const { inFlight, ended } = await served.detach(kept);
  if (inFlight === 0) await giveImage(image);
  else void ended.then(() => giveImage(image)).finally(() => tell({ event: 'ended', ring }));
  return inFlight;
}

async function setImage(ring: number, shared: ImageToShare | undefined): Promise<void> {
  const entry = rings.get(ring)!;
  const old = entry.image;
  try {
    await entry.served.setImage(await takeImage(shared));
  } catch (error) {
    await giveImage(shared?.key);
    throw error;
  }
  entry.image = shared?.key;
  await giveImage(old);
}

/** The image that was opened here has a size of its own: it looks again before requests may reach the new end. */
async function setGeometry(ring: number, geometry: DiskGeometry): Promise<void> {
  const entry = rings.get(ring)!;
  entry.geometry = geometry;
  const opening = entry.image === undefined ? undefined : images.get(entry.image)?.opening;
  await opening?.then((image) => image.refresh({ mayShrink: true })).catch(() => {});
  entry.served.setGeometry(entry.geometry);
}

async function perform(plane: DataPlane, request: WorkerRequest): Promise<WorkerValue | undefined> {
  switch (request.do) {
    case 'attach':
      return attach(plane, request.options);
    case 'pause':
      await rings.get(request.ring)!.served.pause();
      return undefined;
    case 'resume':
      rings.get(request.ring)!.served.resume();
      return undefined;
    case 'stop':
      rings.get(request.ring)?.served.stop();
      return undefined;
    case 'restart':
      await rings.get(request.ring)?.served.restart();
      return undefined;
    case 'setOnError':
      await rings.get(request.ring)?.served.setOnError(request.policy);
      return undefined;
    case 'setTrace':
      rings.get(request.ring)?.served.setTrace(request.trace);
      return undefined;
    case 'setGeometry':
      await setGeometry(request.ring, request.geometry);
      return undefined;
    case 'setImage':
      await setImage(request.ring, request.image);
      return undefined;
    case 'detach':
      return detach(request.ring, request.kept);
    case 'ping':
      return undefined;
    case 'close':
      await plane.close();
      return undefined;
  }
}

async function answer(plane: DataPlane, request: WorkerRequest): Promise<void> {
  try {
    const value = await perform(plane, request);
    tell(value === undefined ? { id: request.id } : { id: request.id, value });
  } catch (cause) {
    const path = cause instanceof XenBlockError ? cause.path : undefined;
    tell({ id: request.id, error: { code: codeOf(cause), message: errorMessage(cause), path } });
  }
  if (request.do === 'close') parentPort!.close();
}

/** What a data plane tells everybody is told on the thread where the subscribers are. */
function forwardEvents(): void {
  overlookedChannel.subscribe((event) => tell({ event: 'overlooked', overlooked: event as RingOverlookedEvent }));
  failedChannel.subscribe((event) => {
    const { ring, error, count } = event as PlaneFailedEvent;
    tell({ event: 'failed', ring, error: { code: codeOf(error), message: errorMessage(error) }, count });
  });
}

async function main(): Promise<void> {
  nameThread(`xen-block/${threadId}`);
  const { provider, options } = workerData as WorkerStart;
  const { attachProvider } = await import(provider.module);
  const xen: XenProvider = await attachProvider(provider.data);
  forwardEvents();
  const plane = new DataPlane(xen, options);
  parentPort!.on('message', (request: WorkerRequest) => void answer(plane, request));
  tell({ event: 'ready' });
}

/** Whoever else imports this module gets nothing, and nothing happens. */
function isStarted(data: unknown): data is WorkerStart {
  return parentPort !== null && (data as Partial<WorkerStart> | null)?.role === 'xen-block data plane';
}

if (isStarted(workerData)) void main();
