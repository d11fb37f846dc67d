import { subscriptions } from './subscriptions.js';

/** Whether xenstored can be reached, which it could when this was made, and how often it was lost since. */
export class XenstoreState implements Disposable {
  #connected = true;
  #losses = 0;
  readonly #subscriptions = subscriptions({
    'xenstore:connection:lost': () => {
      this.#connected = false;
      this.#losses++;
    },
    'xenstore:connection:restored': () => {
      this.#connected = true;
    },
  });

  get connected(): boolean {
    return this.#connected;
  }

  get losses(): number {
    return this.#losses;
  }

  [Symbol.dispose](): void {
    this.#subscriptions[Symbol.dispose]();
  }
}
