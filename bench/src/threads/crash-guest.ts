/** A life of a guest for the crash test, on a thread: connects its disk and uses it until it is told to stop, or ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { Blkfront } from '@xenpv/blkfront';
import { attachProvider } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { DiskLoad } from '../crash/disk-load.js';
import { DriveLoad, Media } from '../crash/drive-load.js';
import { GuestFigures } from '../crash/figures.js';
import type { GuestCommand, GuestMessage, GuestStart } from '../crash/guest-life.js';
import { DiskModel } from '../crash/model.js';
import { Random } from '../program/random.js';

const REPORT_MS = 50;
const start = workerData as GuestStart;
const figures = new GuestFigures(start.figures);
const tell = (message: GuestMessage) => parentPort!.postMessage(message);
const failed = (problem: string) => tell({ failed: problem });

function loadOf(disk: Blkfront): DiskLoad | DriveLoad {
  const random = new Random(start.seed);
  if (start.media !== undefined) return new DriveLoad({ disk, media: new Media(start.media), figures, random, failed });
  const model = DiskModel.of(start.guest, start.model);
  const { depth, thinkMs } = start;
  return new DiskLoad({ disk, model, figures, random, depth, thinkMs, failed });
}

async function main(): Promise<void> {
  const provider = await attachProvider(start.provider);
  const store = XenstoreClient.open(await provider.connectXenstore());
  const disk = await Blkfront.connect({ provider, store, ...start.frontend });
  const load = loadOf(disk);
  load.report();
  tell({ connected: true });
  let closing = false;
  void disk.closed.then(() => closing || failed('the backend closed the disk'));
  const timer = setInterval(() => load.report(), REPORT_MS);
  load.start();
  parentPort!.once('message', async (command: GuestCommand) => {
    await load.stop();
    if (command === 'finish') await load.scan();
    clearInterval(timer);
    load.report();
    closing = true;
    await disk.close();
    await store.close();
    tell({ closed: true });
  });
}

main().catch((error) => failed(`connecting: ${(error as Error).stack}`));
