import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { NBD_REQUEST_BYTES, NbdCommand, NbdFlag } from '@xenpv/nbd';

/** A request as it came; the data of a write follows it. */
export interface HostileRequest {
  readonly command: number;
  readonly cookie: Buffer;
  readonly offset: number;
  readonly length: number;
}

/** An export as a server of no goodwill describes it. */
export interface HostileExport {
  /** Bytes. */
  readonly size: number | bigint;
  readonly flags: number;
  /** Smallest, preferred and largest; not told when not given. */
  readonly blocks?: readonly [number, number, number] | undefined;
}

export interface HostileServerOptions {
  readonly path: string;
  /** The export of each connection, counted from 0. Undefined: it greets and says no more. */
  readonly exportOf?: (connection: number) => HostileExport | undefined;
  /** Gets each request. The data of a write is read away before the next, unless `paused`. */
  readonly onRequest?: (socket: Socket, request: HostileRequest, connection: number) => void;
  /** Instead of all this, when given: what it does with a client. */
  readonly onClient?: (socket: Socket) => void;
}

const DEFAULT_EXPORT: HostileExport = { size: 65536, flags: NbdFlag.hasFlags | NbdFlag.sendFlush };
const OPTION_REPLY = Buffer.from('0003e889045565a9', 'hex');
const SIMPLE_REPLY = 0x67446698;
const GO = 7;

const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), uint(2, 3)]);

export function uint(bytes: number, value: number | bigint): Buffer {
  const field = Buffer.alloc(8);
  field.writeBigUInt64BE(BigInt(value));
  return field.subarray(8 - bytes);
}

export function optionReply(type: number, ...data: Buffer[]): Buffer {
  const payload = Buffer.concat(data);
  return Buffer.concat([OPTION_REPLY, uint(4, GO), uint(4, type), uint(4, payload.length), payload]);
}

/** A simple reply, and what is read. */
export function simpleReply(
  cookie: Uint8Array,
  errno = 0,
  data: Uint8Array = Buffer.alloc(0),
  magic = SIMPLE_REPLY,
): Buffer {
  return Buffer.concat([uint(4, magic), uint(4, errno), cookie, data]);
}

/** An NBD server that keeps to the protocol as far as a test wants it to. */
export class HostileServer {
  readonly path: string;
  /** Of all connections, in the order in which they came. */
  readonly clients: Socket[] = [];
  readonly #options: HostileServerOptions;
  readonly #server: Server;

  private constructor(options: HostileServerOptions) {
    this.path = options.path;
    this.#options = options;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  static async listen(options: HostileServerOptions): Promise<HostileServer> {
    const server = new HostileServer(options);
    await once(server.#server.listen(options.path), 'listening');
    return server;
  }

  async close(): Promise<void> {
    for (const client of this.clients) client.destroy();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  #serve(socket: Socket): void {
    const connection = this.clients.push(socket) - 1;
    socket.on('error', () => {});
    const { exportOf = () => DEFAULT_EXPORT, onRequest = () => {}, onClient } = this.#options;
    if (onClient) {
      onClient(socket);
      return;
    }
    socket.write(greeting);
    socket.once('data', () => {
      const found = exportOf(connection);
      if (!found) return;
      socket.write(optionReply(3, uint(2, 0), uint(8, found.size), uint(2, found.flags)));
      if (found.blocks) socket.write(optionReply(3, uint(2, 3), ...found.blocks.map((bytes) => uint(4, bytes))));
      socket.write(optionReply(1));
      readRequests(socket, (request) => onRequest(socket, request, connection));
    });
  }
}

function readRequests(socket: Socket, onRequest: (request: HostileRequest) => void): void {
  let bytes = Buffer.alloc(0);
  let skip = 0;
  socket.on('data', (piece) => {
    bytes = Buffer.concat([bytes, piece]);
    for (;;) {
      const skipped = Math.min(skip, bytes.length);
      skip -= skipped;
      bytes = bytes.subarray(skipped);
      if (skip > 0 || bytes.length < NBD_REQUEST_BYTES) return;
      const command = bytes.readUInt16BE(6);
      const length = bytes.readUInt32BE(24);
      const request = {
        command,
        cookie: Buffer.from(bytes.subarray(8, 16)),
        offset: Number(bytes.readBigUInt64BE(16)),
        length,
      };
      bytes = bytes.subarray(NBD_REQUEST_BYTES);
      if (command === NbdCommand.write) skip = length;
      onRequest(request);
    }
  });
}
