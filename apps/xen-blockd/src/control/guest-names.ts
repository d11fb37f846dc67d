import { domainPath } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';

/** What is asked about disks is answered without their guests' names while xenstored is away. */
const NAME_MS = 1000;

/** The name of a domain; undefined where it has none, or none that may be read, as in a driver domain. Never rejects. */
export async function nameOfDomain(store: XenstoreClient | undefined, domid: number): Promise<string | undefined> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), NAME_MS);
  try {
    return await store?.tryRead(`${domainPath(domid)}/name`, { signal: late.signal });
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
