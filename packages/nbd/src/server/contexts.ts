/**
 * Block status, the server's part: which meta contexts a client gets, and what it is told of ranges. What a disk's contexts say
 * is made fit here: no client gets more, or less, than the protocol allows.
 */
import type { NbdContext, NbdDisk } from '../disk.js';
import type { NbdExtent } from '../protocol/requests.js';

/** Ranges in one answer of a context; the client asks again for what is behind them. */
const MOST_EXTENTS = 1024;

/** Those of a disk that a client has asked for by `queries`, each once. To list them all it need not ask for any. */
export function contextsFor(
  { contexts = [] }: NbdDisk,
  queries: readonly string[],
  purpose: 'list' | 'set',
): readonly NbdContext[] {
  if (purpose === 'set') return contexts.filter(({ name }) => queries.includes(name));
  const isAsked = (name: string) =>
    queries.some((query) => query === name || (query.endsWith(':') && name.startsWith(query)));
  return queries.length === 0 ? contexts : contexts.filter(({ name }) => isAsked(name));
}

/** What a context tells of a range: at least one extent, none of them empty, and no more bytes than were asked for. Error: it tells nothing. */
export async function statusOf(
  context: NbdContext,
  {
    offset,
    length,
    most = MOST_EXTENTS,
  }: { readonly offset: number; readonly length: number; readonly most?: number | undefined },
): Promise<NbdExtent[]> {
  const merged: { length: number; flags: number }[] = [];
  let left = length;
  for (const extent of await context.status(offset, length)) {
    const taken = Math.min(extent.length, left);
    const last = merged.at(-1);
    if (taken <= 0) continue;
    if (last?.flags === extent.flags) last.length += taken;
    else if (merged.length === most) break;
    else merged.push({ length: taken, flags: extent.flags });
    left -= taken;
  }
  if (merged.length === 0) throw new Error(`${context.name} tells nothing of this range`);
  return merged;
}
