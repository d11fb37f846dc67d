import { type Domid, parseDomid } from '@xenpv/xen-sys';
import type { OperationOptions, XenstoreClient } from '@xenpv/xenstore';
import { errorMessage, XenbusError } from './errors.js';

/**
 * The domain that this process runs in: the toolstack writes `domid` into the home of every domain, and xen-init-dom0
 * into that of domain 0. Rejects with ERR_DOMID when it is not there or makes no sense; a guess would serve the disks
 * of another domain.
 */
export async function readOwnDomid(store: XenstoreClient, options: OperationOptions = {}): Promise<Domid> {
  let text: string | undefined;
  try {
    text = await store.tryRead('domid', options);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw refused(`cannot be read: ${errorMessage(cause)}`, cause);
  }
  const domid = parseDomid(text ?? '');
  if (domid !== undefined) return domid;
  throw refused(text === undefined ? 'is missing' : `is ${JSON.stringify(text.slice(0, 100))}, no number of a domain`);
}

function refused(what: string, cause?: unknown): XenbusError {
  const text = `which domain this is cannot be told: xenstore's "domid", in this domain's home, ${what}`;
  const advice = 'in dom0 run xen-init-dom0, elsewhere the toolstack writes it; or give ownDomid';
  return new XenbusError('ERR_DOMID', 'start', `${text}; ${advice}`, { path: 'domid', cause });
}
