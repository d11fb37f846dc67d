import { isDeepStrictEqual } from 'node:util';
import { errorMessage } from '@xenpv/xenbus';
import type { Logger } from 'pino';
import type { Config } from './config.js';

/** Keys that are taken over while disks are served. The disks that are there keep what they have, but for their limits. */
const RELOADED = [
  'log-level',
  'metrics',
  'page',
  'image-directories',
  'nbd-hosts',
  'nbd-tls',
  'ceph-conf',
  'ceph-user',
  'rbd-pools',
  'iscsi-hosts',
  'iscsi-initiator',
  'iscsi-secrets',
  'backing-files',
  'helper-user',
  'engine',
  'direct',
  'reconnect-seconds',
  'unflushed-mebibytes',
  'disk-limits',
  'disk-limits-for',
  'guest-limits',
  'max-queues',
  'max-ring-page-order',
  'max-indirect-segments',
] as const satisfies readonly (keyof Config)[];

export interface ReloadOptions {
  /** What the process began with. */
  readonly config: Config;
  /** Reads it anew. Error: ERR_CONFIG. */
  readonly load: () => Config;
  /** Puts a new one into force, or throws and leaves all as it is. */
  readonly apply: (config: Config) => void | Promise<void>;
  readonly logger: Logger;
}

/**
 * Reads the configuration anew whenever SIGHUP comes, one time after the other. A wrong one is told, and the former
 * one stays. Keys that need another start are named each time.
 */
export class Reload implements AsyncDisposable {
  readonly #options: ReloadOptions;
  #config: Config;
  #work: Promise<void> = Promise.resolve();
  /** A signal whose reload has not begun; further ones are the same wish. */
  #owed = false;
  readonly #onSignal = () => {
    if (this.#owed) return;
    this.#owed = true;
    this.#work = this.#work.then(() => this.#reload());
  };

  constructor(options: ReloadOptions) {
    this.#options = options;
    this.#config = options.config;
    process.on('SIGHUP', this.#onSignal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('SIGHUP', this.#onSignal);
    await this.#work;
  }

  async #reload(): Promise<void> {
    this.#owed = false;
    const { load, apply, logger } = this.#options;
    try {
      const loaded = load();
      const changed = changedKeys(this.#config, loaded);
      const reloaded = changed.filter(isReloaded);
      const config = { ...this.#config, ...Object.fromEntries(RELOADED.map((key) => [key, loaded[key]])) };
      await apply(config);
      this.#config = config;
      const needsRestart = changed.filter((key) => !isReloaded(key));
      logger.info(
        { changed: reloaded.join(',') || 'nothing', needsRestart: needsRestart.join(',') || undefined },
        'configuration loaded again',
      );
    } catch (error) {
      logger.error({ reason: errorMessage(error) }, 'the configuration is wrong; the former one stays');
    }
  }
}

/** Whether a key takes effect without another start. */
export function isReloaded(key: string): boolean {
  return (RELOADED as readonly string[]).includes(key);
}

function changedKeys(before: Config, after: Config): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof Config>;
  return [...keys].filter((key) => !isDeepStrictEqual(before[key], after[key]));
}
