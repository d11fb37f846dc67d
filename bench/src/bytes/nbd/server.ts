import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NbdDisk } from '@xenpv/nbd';
import * as nbd from '@xenpv/nbd';
import { cut } from '../mutate.js';
import { say } from '../say.js';
import { mustHold, type Target } from '../target.js';
import { CONTEXTS, EXPORT, expectedOf, remarks } from './server-expected.js';

/** The part of the package that is fuzzed. */
type Nbd = Pick<typeof nbd, 'NbdServer'>;

/** More turns of the event loop than any input needs. */
const MOST_TURNS = 20_000;
/** What a server may have said that its client does not read, before it reads on: an answer or two beyond a request. */
const MOST_UNREAD = 33 * 1024 * 1024;

/** A disk that knows what it may be asked. */
class StrictDisk implements NbdDisk {
  readonly size = EXPORT.bytes;
  readonly blockSize = EXPORT.block;
  readonly readOnly = false;
  readonly data = Buffer.alloc(EXPORT.bytes, EXPORT.filler);
  fault: string | undefined;
  readonly contexts = CONTEXTS.map((name, flags) => ({
    name,
    status: async (offset: number, length: number) => {
      this.#check(offset, length);
      return [
        { length: EXPORT.block, flags },
        { length, flags: flags + 1 },
      ];
    },
  }));

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.#check(offset, length);
    return Buffer.from(this.data.subarray(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#check(offset, data.length);
    this.data.set(data.subarray(0, Math.max(0, EXPORT.bytes - offset)), Math.min(offset, EXPORT.bytes));
  }

  async flush(): Promise<void> {}

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
  }

  #check(offset: number, length: number): void {
    const inside = offset >= 0 && length > 0 && offset + length <= EXPORT.bytes;
    if (!inside || offset % EXPORT.block !== 0 || length % EXPORT.block !== 0)
      this.fault ??= `it is asked for ${length} at ${offset}`;
  }
}

/** The server's end of a connection, whose client has said all that it will say. */
class Client extends Duplex {
  readonly said: Buffer[] = [];

  constructor(readonly reads: boolean) {
    super({ writableHighWaterMark: 256 * 1024 });
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.said.push(bytes);
    if (this.reads) done();
  }
}

/**
 * A server with a client of no goodwill: the disk is asked for nothing outside of it, the connection ends, and what was
 * asked has its answers, as a reader of its own has it: each once, of options in their order, with the data that was read.
 */
export function nbdServerOf({ NbdServer }: Nbd = nbd): Target {
  return {
    name: 'nbd-server',
    async read(bytes, random) {
      const disk = new StrictDisk();
      const server = new NbdServer({ [EXPORT.name]: disk });
      const client = new Client(!random.oneIn(8));
      server.listener.emit('connection', client);
      const said = say(client, cut(random, bytes));
      for (let turn = 0; client.reads && !client.destroyed; turn++) {
        mustHold(turn < MOST_TURNS, 'the connection does not end');
        await nextTurn();
      }
      await said;
      if (!client.reads) for (let turn = 0; turn < 20; turn++) await nextTurn();
      const unread = client.writableLength;
      client.destroy();
      mustHold(unread <= MOST_UNREAD, `${unread} bytes wait for a client that does not read`);
      mustHold(disk.fault === undefined, disk.fault ?? '');
      if (!client.reads) return;
      const expected = expectedOf(bytes);
      const wrong = remarks(Buffer.concat(client.said), expected);
      mustHold(wrong === undefined, wrong ?? '');
      mustHold(disk.data.equals(expected.data), 'the disk holds other data than was written');
    },
  };
}

export const nbdServer: Target = nbdServerOf();
