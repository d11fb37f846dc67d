import type { XenProvider } from '@xenpv/xen-sys';
import { except } from '../../program/except.js';

/**
 * The handles of a process that may end at any instant: its ports are closed and its mappings gone then, and what it still
 * does with them does nothing. On one thread only.
 */
export class MortalProvider {
  readonly provider: XenProvider;
  readonly #handles: { close(): void }[] = [];
  #isDead = false;

  constructor(provider: XenProvider) {
    this.provider = except(provider, {
      openEventChannels: () => this.#mortal(provider.openEventChannels()),
      openGrantTable: () => this.#mortal(provider.openGrantTable()),
    });
  }

  die(): void {
    this.#isDead = true;
    for (const handle of this.#handles) handle.close();
  }

  #mortal<T extends { close(): void }>(handle: T): T {
    this.#handles.push(handle);
    return new Proxy(handle, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target) as unknown;
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => (this.#isDead ? 0 : Reflect.apply(value, target, args));
      },
    });
  }
}
