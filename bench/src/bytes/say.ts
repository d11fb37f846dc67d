import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** What is in more pieces comes with the last one: a turn of the event loop takes its time. */
const MOST_PIECES = 200;

/**
 * Lets a stream have the pieces one after the other, and end. Those that it has at once would be read as one piece: a
 * stream joins them.
 */
export async function say(stream: Readable, pieces: readonly Buffer[]): Promise<void> {
  const apart = pieces.slice(0, MOST_PIECES);
  if (pieces.length > MOST_PIECES) apart.push(Buffer.concat(pieces.slice(MOST_PIECES)));
  for (const piece of apart) {
    if (stream.destroyed) return;
    stream.push(piece);
    await nextTurn();
  }
  stream.push(null);
}
