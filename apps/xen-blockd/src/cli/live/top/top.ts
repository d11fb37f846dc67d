import { StopSignal } from '../../../daemon/stop-signal.js';
import { BlockdError } from '../../../errors.js';
import { isDumb, lookOf } from '../../../status/look.js';
import type { Filters } from '../../queries/filters.js';
import type { QueryOptions } from '../../queries/query.js';
import { looks } from '../looks.js';
import { keysOf } from './keys.js';
import { Screen } from './screen.js';
import { TopView } from './view.js';

/**
 * `xen-blockd top`, until a key, a signal or the end of the terminal ends it; resolves with the signal, if it was one.
 * Errors: ERR_USAGE, there is no terminal; ERR_SOCKET, there is no daemon to begin with.
 */
export async function runTop(options: QueryOptions & Filters, seconds: number): Promise<NodeJS.Signals | undefined> {
  if (!process.stdin.isTTY || !process.stdout.isTTY || isDumb(process.env)) {
    const advice = 'elsewhere use: xen-blockd stats --watch';
    throw new BlockdError('ERR_USAGE', 'top', `top needs a terminal that it can draw on; ${advice}`);
  }
  using stop = new StopSignal('SIGHUP');
  const session = new Session();
  const end = () => session.end();
  stop.signal.addEventListener('abort', end);
  process.on('uncaughtException', session.fail);
  try {
    await session.run({ ...options, seconds });
  } finally {
    process.off('uncaughtException', session.fail);
    stop.signal.removeEventListener('abort', end);
  }
  return stop.received;
}

/** From the first look to the end. */
class Session {
  readonly #ending = new AbortController();
  readonly #view = new TopView();
  #screen: Screen | undefined;
  #failure: { readonly error: unknown } | undefined;

  readonly end = (): void => this.#ending.abort();

  readonly fail = (error: unknown): void => {
    this.#failure ??= { error };
    this.end();
  };

  /** Rejects with what fails, when the terminal is as it was. */
  async run(options: QueryOptions & Filters & { readonly seconds: number }): Promise<void> {
    try {
      for await (const look of looks({ ...options, signal: this.#ending.signal })) {
        // An error of the first look is a line on the terminal as it was.
        this.#screen ??= this.#open();
        this.#view.look(look);
        this.#draw();
      }
    } finally {
      this.#screen?.[Symbol.dispose]();
    }
    if (this.#failure) throw this.#failure.error;
  }

  #open(): Screen {
    return new Screen(process.stdin, process.stdout, {
      input: (text) => this.#pressed(text),
      redraw: () => this.#draw(),
      lost: this.end,
    });
  }

  #pressed(text: string): void {
    const keys = keysOf(text);
    if (keys.some(({ name }) => name === 'suspend')) this.#screen?.suspend();
    else if (keys.every((key) => this.#view.press(key))) this.#draw();
    else this.end();
  }

  #draw(): void {
    if (this.#screen && !this.#ending.signal.aborted) {
      this.#screen.draw(this.#view.draw({ ...this.#screen.size, paint: lookOf(process.stdout).paint }));
    }
  }
}
