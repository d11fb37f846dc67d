import type { RawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import type { EventChannels, GrantTable, XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import type { XenBlockBackendOptions } from '../options.js';
import type { TestHost } from './host.js';

/** A provider whose handles close as a kernel closes them when their process is killed. */
function killable(provider: XenProvider): { provider: XenProvider; kill(): void } {
  const handles: (EventChannels | GrantTable)[] = [];
  const kept = <T extends EventChannels | GrantTable>(handle: T): T => {
    handles.push(handle);
    return handle;
  };
  const wrapped = Object.create(provider, {
    openEventChannels: { value: () => kept(provider.openEventChannels()) },
    openGrantTable: { value: () => kept(provider.openGrantTable()) },
    features: { value: provider.features },
  });
  const kill = () => {
    for (const handle of handles) handle.close();
  };
  return { provider: wrapped, kill };
}

/** Puts writes of a page each, filled with the page's number, and pushes them together. */
export function writePages(raw: RawQueue, pages: number[]) {
  const { abi } = raw;
  const answers = pages.map((page) => {
    const data = raw.page();
    data.bytes.fill(page);
    const words = new Int32Array(abi.slotWords);
    const request = new RequestWriter(words, abi);
    request.readWrite(BlkifOp.write, 1, page, 0, page * 8);
    request.segment(0, data.gref, 0, 7);
    return raw.put(words);
  });
  raw.push();
  return answers;
}

/** Starts a backend that can be killed; resolves with what does so. */
export async function startKillable(
  host: TestHost,
  journalDirectory: string,
  options: Partial<XenBlockBackendOptions> = {},
): Promise<() => Promise<void>> {
  const { provider, kill } = killable(host.xen.provider(0));
  const store = XenstoreClient.open(host.xen.xenstored.connect(0));
  await host.startBackend({ provider, store, journalDirectory, ...options });
  return async () => {
    kill();
    await store.close();
  };
}
