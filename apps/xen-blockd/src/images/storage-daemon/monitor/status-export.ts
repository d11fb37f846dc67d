/**
 * What a helper knows of its image besides the data: which parts its dirty bitmaps have noted, and how deep in its layers each part
 * is. An export of the helper tells, which nobody reads or writes; QEMU lets nobody change a bitmap meanwhile.
 */
import { connect } from 'node:net';
import { type NbdContext, NbdStatusClient } from '@xenpv/nbd';
import type { QmpClient } from '@xenpv/qmp';
import { EXPORT } from '../arguments.js';
import type { StorageDaemon } from '../storage-daemon.js';
import { endExports, STATUS_EXPORT } from './exports.js';

const ANSWER_MS = 30_000;
/** For the export to be gone. */
const QUIET_MS = 5000;
const NEVER = new AbortController().signal;

/** QEMU's. */
export const ALLOCATION_DEPTH = 'qemu:allocation-depth';
const BITMAP = 'qemu:dirty-bitmap:';

/** What is asked for. */
export interface StatusChoice {
  /** Names of bitmaps. */
  readonly bitmaps: readonly string[];
  readonly allocationDepth: boolean;
}

let made = 0;

export class StatusExport implements AsyncDisposable {
  readonly contexts: readonly NbdContext[];
  /** Resolves when it tells nothing any more: with its helper, or when the image is opened anew. It never comes back, since bitmaps may not be what they were. */
  readonly lost: Promise<void>;
  readonly #monitor: QmpClient;
  readonly #client: NbdStatusClient;
  /** What the helper calls it, as its id and to clients. */
  readonly name: string;

  private constructor(monitor: QmpClient, client: NbdStatusClient, { id, names }: { id: string; names: string[] }) {
    this.#monitor = monitor;
    this.#client = client;
    this.name = id;
    this.lost = client.closed;
    this.contexts = names.map((name) => ({
      name,
      status: async (offset, length) => (await client.status(offset, length)).get(name) ?? [],
    }));
  }

  /** Of the image, or another node. Errors: QmpError, QEMU has no such bitmap, or does not lend it; NbdError. */
  static async open(
    helper: StorageDaemon,
    { bitmaps, allocationDepth }: StatusChoice,
    node = EXPORT,
  ): Promise<StatusExport> {
    const monitor = await helper.monitor();
    const id = `${STATUS_EXPORT}${++made}`;
    const unique = [...new Set(bitmaps)];
    const names = [...unique.map((bitmap) => `${BITMAP}${bitmap}`), ...(allocationDepth ? [ALLOCATION_DEPTH] : [])];
    const added = { type: 'nbd', id, 'node-name': node, name: id, writable: false };
    await monitor.execute('block-export-add', { ...added, bitmaps: unique, 'allocation-depth': allocationDepth });
    try {
      const socket = connect(helper.socket).unref();
      const client = await NbdStatusClient.open(socket, { exportName: id, contexts: names, answerMs: ANSWER_MS });
      return new StatusExport(monitor, client, { id, names });
    } catch (error) {
      await end(monitor, id);
      throw error;
    }
  }

  /** Bitmaps are the helper's to change again when it resolves. It never rejects. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await end(this.#monitor, this.name);
  }
}

async function end(monitor: QmpClient, id: string): Promise<void> {
  // A helper that is gone has no exports.
  await endExports(monitor, (each) => each === id, { quietMs: QUIET_MS, signal: NEVER }).catch(() => {});
}
