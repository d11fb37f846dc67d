import { type DeviceEvent, deviceName } from '@xenpv/xenbus';
import type { LimitedLine } from '../../log/limited-log.js';
import { subscriptions } from './subscriptions.js';

/** What the log says of a storage helper that has failed. */
const FAILURES: readonly string[] = ['qemu-storage-daemon ended', 'qemu-storage-daemon does not start'];

interface Failures {
  total: number;
  /** Of the row that was told of last. */
  inRow: number;
}

/**
 * How often the storage helper of each disk has failed, from what is told to the log: of failures in a row those whose
 * number is a power of two, so that in a long row the count is behind.
 */
export class HelperFailures implements Disposable {
  readonly #failures = new Map<string, Failures>();
  readonly #subscriptions = subscriptions({
    'xenbus:device:removed': ({ address }: DeviceEvent) => void this.#failures.delete(deviceName(address)),
  });

  /** Since the disk is there. */
  of(device: string): number {
    return this.#failures.get(device)?.total ?? 0;
  }

  /** What is told to the log, whether it is written or not. */
  logged(kind: string, device: string | undefined, { fields }: LimitedLine): void {
    const inRow = fields?.failures;
    if (!FAILURES.includes(kind) || device === undefined || typeof inRow !== 'number') return;
    const before = this.#failures.get(device) ?? { total: 0, inRow: 0 };
    const more = inRow > before.inRow ? inRow - before.inRow : inRow;
    this.#failures.set(device, { total: before.total + more, inRow });
  }

  [Symbol.dispose](): void {
    this.#subscriptions[Symbol.dispose]();
  }
}
