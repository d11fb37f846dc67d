import { Blkfront } from '@xenpv/blkfront';
import { joinHost, RemoteHost, type XlDisk } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { expect } from 'vitest';
import type { Cleanup } from '../cleanup.js';
import { verifiedLoad } from '../embedded/verified-load.js';

/** A guest with a disk, of a host in a folder. */
export async function attachTo(folder: string, cleanup: Cleanup, disk: Omit<XlDisk, 'vdev'>): Promise<Blkfront> {
  const remote = cleanup.use(await RemoteHost.connect(folder));
  const { domid } = await remote.createDomain({ name: 'guest', transient: true });
  await remote.attachDisk(domid, { vdev: 'xvda', ...disk });
  const provider = await joinHost(folder, { domid });
  const store = cleanup.use(XenstoreClient.open(await provider.connectXenstore()));
  return cleanup.use(await Blkfront.connect({ provider, store, vdev: 'xvda', queues: 2 }));
}

/** How far it must get on, and in which time. */
interface Pace {
  readonly operations: number;
  readonly timeoutMs: number;
}

/** Writes and reads until it is ended, and checks all that it reads. */
export class GuestLoad {
  readonly #pace: Pace;
  readonly #ended = new AbortController();
  readonly #report: ReturnType<typeof verifiedLoad>;
  #operations = 0;

  constructor(disk: Blkfront, pace: Pace) {
    this.#pace = pace;
    const progress = (count: number) => void (this.#operations = count);
    this.#report = verifiedLoad(disk, { depth: 8, signal: this.#ended.signal, progress });
  }

  /** It has got on since this was asked for. */
  async goesOn(): Promise<void> {
    const { operations, timeoutMs: timeout } = this.#pace;
    const wanted = this.#operations + operations;
    await expect.poll(() => this.#operations, { timeout, interval: 20 }).toBeGreaterThan(wanted);
  }

  /** Nothing failed, and nothing was other than it was written. */
  async end(): Promise<void> {
    this.#ended.abort();
    expect(await this.#report).toMatchObject({ errors: 0, wrong: 0 });
  }
}
