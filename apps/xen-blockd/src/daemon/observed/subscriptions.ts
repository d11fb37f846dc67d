import { subscribe, unsubscribe } from 'node:diagnostics_channel';

/** Listens to channels, by their names, until it is disposed of. */
export function subscriptions(listeners: Readonly<Record<string, (event: never) => void>>): Disposable {
  const all = Object.entries(listeners).map(
    ([channel, listener]) => [channel, (event: unknown) => listener(event as never)] as const,
  );
  for (const [channel, listener] of all) subscribe(channel, listener);
  return {
    [Symbol.dispose]() {
      for (const [channel, listener] of all) unsubscribe(channel, listener);
    },
  };
}
