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
  // What is wrong with xenstored: it refuses, it is silent, or its connection cannot be closed.
  const trouble = process.env.XEN_BLOCKD_TEST_XENSTORED;
  const connectXenstore = async (connectOwn) => {
    if (trouble === 'refuses') throw new Error('no xenstored here');
    const transport = await connectOwn();
    if (trouble === 'silent') {
      const start = transport.start.bind(transport);
      transport.start = (listener) => start({ ...listener, data: () => {} });
    }
    if (trouble === 'stuck') transport.close = () => new Promise(() => {});
    return transport;
  };
  const provider = () => {
    const own = host.provider(0);
    if (!trouble) return own;
    // A handle that nobody closes.
    setInterval(() => {}, 1000);
    const connectOwn = own.connectXenstore.bind(own);
    own.connectXenstore = (options) => connectXenstore(() => connectOwn(options));
    return own;
  };
  globalThis.emulatedXen = { host, store, guestStore, connect, kept: {}, provider };

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
