// Loaded before the built program (`node --import`): its "own Xen" is an embedded host, in the same process, whose
// toolstack and guests a test drives over the IPC channel.
import { createRequire } from 'node:module';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  const require = createRequire(new URL('../../dist/program.cjs', import.meta.url));
  const xenSys = require('@xenpv/xen-sys');
  // There may be no addon.
  const forbidCoreDumps = () => {
    try {
      xenSys.forbidCoreDumps();
    } catch (error) {
      if (error.code !== 'ERR_NO_ADDON') throw error;
    }
  };
  const replaced = {
    requireNativeAddon: () => {},
    forbidCoreDumps,
    nativeProvider: () => globalThis.emulatedXen.provider(),
  };
  require.cache[require.resolve('@xenpv/xen-sys')].exports = { ...xenSys, ...replaced };
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
