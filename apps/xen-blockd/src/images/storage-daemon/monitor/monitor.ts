import { QmpClient, type QmpClientOptions } from '@xenpv/qmp';
import { PROGRAM } from '../arguments.js';
import type { Helper } from '../helper-process.js';

/** No answer of a monitor that is asked for here is longer. */
const MOST_CHARACTERS = 1 << 20;

export type MonitorOptions = Pick<QmpClientOptions, 'answerMs' | 'signal' | 'onEvent'>;

/** Talks to the monitor of a helper, which has one client at a time. Rejects as QmpClient.connect does. */
export async function openMonitor(path: string, options: MonitorOptions): Promise<QmpClient> {
  const client = await QmpClient.connect(path, { ...options, mostCharacters: MOST_CHARACTERS });
  client.unref();
  return client;
}

/** One conversation with each helper that comes, from when it is first wanted on. */
export class KeptMonitor {
  readonly #open: () => Promise<QmpClient>;
  #kept: { readonly helper: Helper; readonly client: Promise<QmpClient> } | undefined;

  constructor(open: () => Promise<QmpClient>) {
    this.#open = open;
  }

  /** Rejects as openMonitor does, and while there is no helper. */
  async of(helper: Helper | undefined): Promise<QmpClient> {
    if (!helper || helper.end) throw new Error(`${PROGRAM} is being started`);
    if (helper.monitor) return helper.monitor;
    if (this.#kept?.helper !== helper) {
      const client = this.#open();
      const kept = { helper, client };
      this.#kept = kept;
      const forget = () => {
        if (this.#kept === kept) this.#kept = undefined;
      };
      void client.then(({ closed }) => closed).then(forget, forget);
    }
    return this.#kept.client;
  }
}
