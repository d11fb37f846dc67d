import type { XenBlockBackend } from '@xenpv/xen-block';
import { errorNodePath } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { DiskErrorsKept } from './disk-errors.js';

/**
 * What an earlier process has refused, and nobody has tried again: such a disk is Closed, its frontend too, and only its
 * error node says why. A domain that may not write error nodes has none.
 */
export async function noteLeftErrors(
  { unopened, ownDomid }: Pick<XenBlockBackend, 'unopened' | 'ownDomid'>,
  store: XenstoreClient,
  errors: DiskErrorsKept,
): Promise<void> {
  for (const address of unopened) {
    const told = await store.tryRead(`${errorNodePath(ownDomid, address)}/error`);
    if (told !== undefined) errors.left(address, told);
  }
}
