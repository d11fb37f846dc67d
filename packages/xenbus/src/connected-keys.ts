import type { DeviceNodes } from './device-nodes.js';
import type { XenstoreValues } from './handler/handler.js';
import { XenbusState } from './states.js';
import { isXenstoreTrouble } from './waiting/xenstore-trouble.js';

/**
 * What a Connected device says of itself. What xenstored does not take is kept, to be written later: a device that is
 * served stays so.
 */
export class ConnectedKeys {
  readonly #nodes: DeviceNodes;
  #owed: XenstoreValues | undefined;
  /** All that it has said since it is served. */
  #said: XenstoreValues = {};
  /** It is known that Connected was written. */
  #isAnnounced = false;
  /** An earlier process has written all that is owed, perhaps with the same values. */
  #isAdopted = false;

  constructor(nodes: DeviceNodes) {
    this.#nodes = nodes;
  }

  /**
   * The device is served, and Connected is not written yet. With `adopt` an earlier process has written it, and its keys:
   * {@link publishOwed} writes those that are others now.
   */
  begin(values: XenstoreValues, { adopt }: { adopt: boolean }): void {
    this.#owed = values;
    this.#said = values;
    this.#isAnnounced = adopt;
    this.#isAdopted = adopt;
  }

  /** xenstored has lost what it was told: all of it is to be written again. */
  again(): void {
    this.#owed = { ...this.#said, ...this.#owed };
    this.#isAdopted = false;
  }

  /** The device is not served any more. */
  end(): void {
    this.#owed = undefined;
    this.#isAnnounced = false;
  }

  /** Writes Connected and the keys that go with it. When it rejects, nobody knows whether they were written. */
  async announce(expected: XenbusState | undefined): Promise<void> {
    await this.#nodes.publish(expected, XenbusState.connected, this.#owed ?? {});
    this.#owed = undefined;
    this.#isAnnounced = true;
    this.#isAdopted = false;
  }

  /** Writes changed keys. What is not written when it rejects is kept if xenstored was in trouble. */
  async update(values: XenstoreValues): Promise<void> {
    this.#owed = { ...this.#owed, ...values };
    this.#said = { ...this.#said, ...values };
    if (this.#isAnnounced) await this.publishOwed();
  }

  /** Writes what was kept, if there is anything. The backend must be Connected. */
  async publishOwed(): Promise<void> {
    const values = this.#owed;
    if (values === undefined) return;
    this.#owed = undefined;
    try {
      if (this.#isAdopted) await this.#nodes.updateChanged(values);
      else await this.#nodes.update(values);
      this.#isAnnounced = true;
      this.#isAdopted = false;
    } catch (error) {
      if (isXenstoreTrouble(error)) this.#keep(values);
      throw error;
    }
  }

  /** What came since then is newer. */
  #keep(values: XenstoreValues): void {
    this.#owed = { ...values, ...this.#owed };
  }
}
