import { connect } from 'node:net';
import { NBD_BASE_ALLOCATION, NbdState, NbdStatusClient } from '@xenpv/nbd';
import type { ImageExtent } from '../block-image.js';
import { wholeSectorExtents } from '../extents.js';
import { connectOptions, type NbdAddress } from './address.js';

/** A server that is busy for longer is not asked: all is data then. */
const ANSWER_MS = 5000;

export interface ExportExtentsOptions {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Resolves when the server that is there has all that was acknowledged; rejects when there will be none. */
  readonly upToDate: () => Promise<void>;
}

/**
 * What an NBD server tells of its export, on a connection of its own. A server that has come back has not yet what was
 * acknowledged and not flushed, and would tell of holes there. So each connection, and with it the server at its other end, is
 * asked only once that server was seen to be up to date.
 */
export class ExportExtents {
  readonly #options: ExportExtentsOptions;
  #kept: Promise<NbdStatusClient> | undefined;
  #isClosed = false;

  constructor(options: ExportExtentsOptions) {
    this.#options = options;
  }

  /** See `extents` of BlockImage. Errors: NbdError, also of a server that does not tell or is slow; what `upToDate` rejects with. */
  async find(offset: number, length: number, sectorSize: number): Promise<readonly ImageExtent[]> {
    this.#kept ??= this.#open();
    const client = await this.#kept;
    const found = await client.status(offset, length);
    const extents = (found.get(NBD_BASE_ALLOCATION) ?? []).map((extent) => ({
      length: extent.length,
      isHole: (extent.flags & NbdState.hole) !== 0,
      isZero: (extent.flags & NbdState.zero) !== 0,
    }));
    return wholeSectorExtents(extents, sectorSize);
  }

  close(): void {
    this.#isClosed = true;
    void this.#kept?.then((client) => client.close()).catch(() => {});
  }

  #open(): Promise<NbdStatusClient> {
    const opened = this.#connect();
    const forget = () => {
      if (this.#kept === opened) this.#kept = undefined;
    };
    void opened.then(({ closed }) => closed).then(forget, forget);
    return opened;
  }

  async #connect(): Promise<NbdStatusClient> {
    const { address, exportName, upToDate } = this.#options;
    const contexts = [NBD_BASE_ALLOCATION];
    const socket = connect(connectOptions(address)).unref();
    const client = await NbdStatusClient.open(socket, { exportName, contexts, answerMs: ANSWER_MS });
    // Whoever waits for this may be about to let go of the image.
    const late = setTimeout(() => client.close(), ANSWER_MS);
    try {
      await Promise.race([upToDate(), client.closed]);
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(late);
    }
    if (this.#isClosed) client.close();
    return client;
  }
}
