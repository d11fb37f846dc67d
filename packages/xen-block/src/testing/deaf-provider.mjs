/** The emulator's provider on a worker thread, whose events are lost as long as `data.deaf[0]` is not 0. */

export async function attachProvider({ inner, deaf }) {
  const { attachProvider: attachInner } = await import(inner.module);
  return deafProvider(await attachInner(inner.data), deaf);
}

/** `deaf`: an Int32Array. */
export function deafProvider(provider, deaf) {
  return new Proxy(provider, {
    get(target, key) {
      if (key === 'openEventChannels') return () => deafChannels(target.openEventChannels(), deaf);
      if (key === 'share') return () => ({ module: import.meta.url, data: { inner: target.share(), deaf } });
      const value = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function deafChannels(events, deaf) {
  return new Proxy(events, {
    get(target, key) {
      if (key === 'listen') {
        return (listener) => target.listen((ports, count) => Atomics.load(deaf, 0) === 0 && listener(ports, count));
      }
      const value = Reflect.get(target, key);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
