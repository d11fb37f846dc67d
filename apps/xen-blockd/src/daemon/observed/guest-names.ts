import { type DeviceEvent, deviceName, domainPath } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import { subscriptions } from './subscriptions.js';

/** Somebody may rename a guest. */
const KEPT_MS = 60_000;

interface Guest {
  name: string | undefined;
  readAt: number;
  isBeingRead: boolean;
  /** Its devices that are there. */
  readonly devices: Set<string>;
}

/**
 * The names of the guests that have disks. They are read when a disk appears and when it connects, which a guest that
 * has migrated does under its final name. A storage driver domain may not read them.
 */
export class GuestNames implements Disposable {
  readonly #store: XenstoreClient;
  readonly #guests = new Map<number, Guest>();
  readonly #subscriptions: Disposable;

  /** `store` is the caller's to close. */
  constructor(store: XenstoreClient) {
    this.#store = store;
    this.#subscriptions = subscriptions({
      'xenbus:device:added': ({ address }: DeviceEvent) => this.#added(address),
      'xen-block:device:connected': ({ address }: DeviceEvent) => this.#read(address.domid),
      'xenbus:device:removed': ({ address }: DeviceEvent) => this.#removed(address),
    });
  }

  /** Undefined if it is not known, or not yet. */
  of(domid: number): string | undefined {
    return this.#guests.get(domid)?.name;
  }

  /** That of the guest that `qdisk-5-51712` is of. */
  ofDevice(device: string): string | undefined {
    const [, domid] = /^\w+-(\d+)-\d+$/.exec(device) ?? [];
    return domid === undefined ? undefined : this.of(Number(domid));
  }

  /** Reads those again that were read a while ago; nobody waits for that. */
  review(): void {
    for (const [domid, { readAt }] of this.#guests) if (performance.now() - readAt > KEPT_MS) this.#read(domid);
  }

  [Symbol.dispose](): void {
    this.#subscriptions[Symbol.dispose]();
    this.#guests.clear();
  }

  #added(address: DeviceEvent['address']): void {
    const { domid } = address;
    const guest = this.#guests.get(domid);
    if (guest) guest.devices.add(deviceName(address));
    else {
      const devices = new Set([deviceName(address)]);
      this.#guests.set(domid, { name: undefined, readAt: 0, isBeingRead: false, devices });
      this.#read(domid);
    }
  }

  #removed(address: DeviceEvent['address']): void {
    const guest = this.#guests.get(address.domid);
    guest?.devices.delete(deviceName(address));
    if (guest?.devices.size === 0) this.#guests.delete(address.domid);
  }

  /** What cannot be read leaves what was known: a xenstored that is away comes back. */
  #read(domid: number): void {
    const guest = this.#guests.get(domid);
    if (!guest || guest.isBeingRead) return;
    guest.isBeingRead = true;
    guest.readAt = performance.now();
    void this.#store
      .tryRead(`${domainPath(domid)}/name`)
      .then(
        (name) => {
          guest.name = name ?? guest.name;
        },
        () => {},
      )
      .finally(() => {
        guest.isBeingRead = false;
      });
  }
}
