// Loaded before the built program (`node --import`): its "own Xen" is an embedded host, in the same process, whose
// toolstack and guests a test drives over the IPC channel.
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const HOOKS = `
export async function resolve(specifier, context, next) {
  if (specifier !== '@xenpv/xen-sys' || !/[/]apps[/]xen-blockd[/]dist[/]/.test(context.parentURL ?? '')) {
    return next(specifier, context);
  }
  const { url } = await next(specifier, context);
  const source = 'export * from ' + JSON.stringify(url) + '; export const requireNativeAddon = () => {};'
    + ' export const nativeProvider = () => globalThis.emulatedXen.provider();';
  return { url: 'data:text/javascript,' + encodeURIComponent(source), shortCircuit: true };
}`;

if (isMainThread) {
  register(`data:text/javascript,${encodeURIComponent(HOOKS)}`);
  const { EmulatedHost } = await import('@xenpv/emulator');
  const { Blkfront } = await import('@xenpv/blkfront');
  const { XenstoreClient } = await import('@xenpv/xenstore');
  const host = await EmulatedHost.create({ toolstackTimeoutMs: 5000 });
  const store = XenstoreClient.open(await host.provider(0).connectXenstore());
  const guestStore = async (domid) => {
    const { provider } = host.domains.find((domain) => domain.domid === domid);
    return XenstoreClient.open(await provider.connectXenstore());
  };
  const connect = async (domid) => {
    const { provider } = host.domains.find((domain) => domain.domid === domid);
    return Blkfront.connect({ provider, store: await guestStore(domid), vdev: 'xvda' });
  };
  globalThis.emulatedXen = { host, store, guestStore, connect, kept: {}, provider: () => host.provider(0) };

  process.on('message', async ({ id, source, args }) => {
    try {
      const value = await new Function(`return (${source})`)()(globalThis.emulatedXen, ...args);
      process.send({ id, value });
    } catch (error) {
      process.send({ id, error: String(error?.stack ?? error) });
    }
  });
  process.channel?.unref();
}
