import { reportFallback } from '../diagnostics.js';
import { BlockDeviceError } from '../errors.js';
import { type ThreadRing, threadRing } from '../uring/thread-ring.js';
import type { FileImageOptions } from './options.js';

/** The thread's ring for the engine, or undefined for plain calls. Error: ERR_NO_IO_URING. */
export function ringFor(path: string, engine: FileImageOptions['engine'] = 'auto'): ThreadRing | undefined {
  if (engine === 'sync') return undefined;
  if (engine === 'threads') return ringOfThreads();
  const ring = threadRing();
  if (typeof ring !== 'string') return ring;
  if (engine === 'io_uring') throw new BlockDeviceError('ERR_NO_IO_URING', 'open', `${path}: ${ring}`, { path });
  reportFallback({ path, wanted: 'io_uring', used: 'threads', reason: ring });
  return ringOfThreads();
}

/** Undefined without the addon: the calls are libuv's then, whose threads all disks share. */
function ringOfThreads(): ThreadRing | undefined {
  const ring = threadRing('threads');
  return typeof ring === 'string' ? undefined : ring;
}
