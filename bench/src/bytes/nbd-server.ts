import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type NbdDisk, NbdServer } from '@xenpv/nbd';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

const BYTES = 64 * 1024;
const BLOCK = 512;
/** More turns of the event loop than any input needs. */
const MOST_TURNS = 20_000;
/** What a server may have said that its client does not read, before it reads on: an answer or two beyond a request. */
const MOST_UNREAD = 33 * 1024 * 1024;

/** A disk that knows what it may be asked. */
class StrictDisk implements NbdDisk {
  readonly size = BYTES;
  readonly blockSize = BLOCK;
  readonly readOnly = false;
  readonly #data = Buffer.alloc(BYTES, 7);
  fault: string | undefined;

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.#check(offset, length);
    return this.#data.subarray(offset, offset + length);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#check(offset, data.length);
    this.#data.set(data, offset);
  }

  async flush(): Promise<void> {}

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
  }

  #check(offset: number, length: number): void {
    const inside = offset >= 0 && length > 0 && offset + length <= BYTES;
    if (!inside || offset % BLOCK !== 0 || length % BLOCK !== 0)
      this.fault ??= `it is asked for ${length} at ${offset}`;
  }
}

/** The server's end of a connection, whose client has said all that it will say. */
class Client extends Duplex {
  said = 0;

  constructor(
    pieces: readonly Buffer[],
    readonly reads: boolean,
  ) {
    super({ writableHighWaterMark: 256 * 1024 });
    for (const piece of pieces) this.push(piece);
    this.push(null);
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.said += bytes.length;
    if (this.reads) done();
  }
}

/** A server with a client of no goodwill: the disk is asked for nothing outside of it, and the connection ends. */
export const nbdServer: Target = {
  name: 'nbd-server',
  async read(bytes, random) {
    const disk = new StrictDisk();
    const server = new NbdServer({ disk });
    const client = new Client(cut(random, bytes), !random.oneIn(8));
    server.listener.emit('connection', client);
    for (let turn = 0; client.reads && !client.destroyed; turn++) {
      mustHold(turn < MOST_TURNS, 'the connection does not end');
      await nextTurn();
    }
    if (!client.reads) for (let turn = 0; turn < 20; turn++) await nextTurn();
    mustHold(
      client.writableLength <= MOST_UNREAD,
      `${client.writableLength} bytes wait for a client that does not read`,
    );
    client.destroy();
    mustHold(disk.fault === undefined, disk.fault ?? '');
  },
};
