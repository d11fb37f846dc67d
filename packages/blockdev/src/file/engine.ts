import { reportFallback } from '../diagnostics.js';
import { BlockDeviceError } from '../errors.js';
import { type ThreadRing, threadRing } from '../uring/thread-ring.js';
import type { FileImageOptions } from './options.js';

/** The thread's ring, or undefined for plain calls. Error: ERR_NO_IO_URING. */
export function ringFor(path: string, engine: FileImageOptions['engine'] = 'auto'): ThreadRing | undefined {
  if (engine === 'threads' || engine === 'sync') return undefined;
  const ring = threadRing();
  if (typeof ring !== 'string') return ring;
  if (engine === 'io_uring') throw new BlockDeviceError('ERR_NO_IO_URING', 'open', `${path}: ${ring}`, { path });
  reportFallback({ path, wanted: 'io_uring', used: 'threads', reason: ring });
  return undefined;
}
