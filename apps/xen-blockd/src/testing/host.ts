import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Blkfront, type BlkfrontOptions } from '@xenpv/blkfront';
import { EmulatedHost } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { Cleanup } from '../cleanup.js';

/** An embedded host with a directory of its own; disposing of it ends and removes all. */
export class EmbeddedHost implements AsyncDisposable {
  readonly host: EmulatedHost;
  readonly directory: string;
  /** A connection of domain 0. */
  readonly store: XenstoreClient;
  readonly #cleanup: Cleanup;

  private constructor(host: EmulatedHost, directory: string, store: XenstoreClient, cleanup: Cleanup) {
    this.host = host;
    this.directory = directory;
    this.store = store;
    this.#cleanup = cleanup;
  }

  static async create(): Promise<EmbeddedHost> {
    const cleanup = new Cleanup();
    const directory = mkdtempSync(join(tmpdir(), 'blockd-test-'));
    cleanup.defer(() => rmSync(directory, { recursive: true, force: true }));
    const host = cleanup.use(await EmulatedHost.create({ toolstackTimeoutMs: 3000 }));
    const store = cleanup.use(XenstoreClient.open(await host.provider(0).connectXenstore()));
    return new EmbeddedHost(host, directory, store, cleanup);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** A guest on this thread that connects to its disk. */
  async connectGuest(domid: number, options: Partial<BlkfrontOptions> = {}): Promise<Blkfront> {
    const { provider } = this.host.domains.find((domain) => domain.domid === domid)!;
    const store = this.#cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
    return this.#cleanup.use(
      await Blkfront.connect({ provider, store, vdev: 'xvda', closeTimeoutMs: 500, ...options }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup[Symbol.asyncDispose]();
  }
}
