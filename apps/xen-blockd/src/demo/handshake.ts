import { parseState, stateName } from '@xenpv/xenbus';
import type { Watch, XenstoreClient } from '@xenpv/xenstore';

/** One node that got a new value. */
export interface HandshakeStep {
  /** Milliseconds since the trace began. */
  readonly at: number;
  readonly end: 'backend' | 'frontend';
  /** Relative to the end's directory. */
  readonly key: string;
  /** Undefined when the node was removed. */
  readonly value: string | undefined;
}

/** Follows both ends' directories of one device in xenstore and tells of each key that gets another value. */
export class HandshakeTrace implements AsyncDisposable {
  readonly #store: XenstoreClient;
  readonly #tell: (step: HandshakeStep) => void;
  readonly #began = performance.now();
  readonly #known = new Map<string, string>();
  readonly #watches: Watch[] = [];
  readonly #following: Promise<void>[] = [];

  private constructor(store: XenstoreClient, tell: (step: HandshakeStep) => void) {
    this.#store = store;
    this.#tell = tell;
  }

  /** Begins; what happens after it resolved is seen. */
  static async start(
    store: XenstoreClient,
    paths: { readonly backend: string; readonly frontend: string },
    tell: (step: HandshakeStep) => void,
  ): Promise<HandshakeTrace> {
    const trace = new HandshakeTrace(store, tell);
    await Promise.all([trace.#follow('backend', paths.backend), trace.#follow('frontend', paths.frontend)]);
    return trace;
  }

  async #follow(end: HandshakeStep['end'], directory: string): Promise<void> {
    const watch = await this.#store.watch(directory);
    this.#watches.push(watch);
    this.#following.push(this.#read(end, directory, watch));
  }

  async #read(end: HandshakeStep['end'], directory: string, watch: Watch): Promise<void> {
    for await (const { path } of watch) {
      if (path === directory) continue;
      const value = await this.#store.tryRead(path);
      if (value === this.#known.get(path)) continue;
      if (value === undefined) this.#known.delete(path);
      else this.#known.set(path, value);
      const at = performance.now() - this.#began;
      this.#tell({ at, end, key: path.slice(directory.length + 1), value });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch[Symbol.asyncDispose]()));
    await Promise.all(this.#following);
  }
}

/** A step as a line: `  12.3 ms  backend   state = 2 (InitWait)`. */
export function formatStep({ at, end, key, value }: HandshakeStep): string {
  const time = `${at.toFixed(1)} ms`.padStart(11);
  return `${time}  ${end.padEnd(8)}  ${key}${formatValue(key, value)}`;
}

function formatValue(key: string, value: string | undefined): string {
  if (value === undefined) return ' removed';
  if (key === 'state') return ` = ${value} (${stateName(parseState(value))})`;
  return ` = ${value === '' ? '""' : value}`;
}
