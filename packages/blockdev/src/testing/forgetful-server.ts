import { once } from 'node:events';
import { rmSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { NBD_BASE_ALLOCATION, type NbdDisk, NbdServer, NbdState } from '@xenpv/nbd';

/** An NBD server whose death takes with it what was not flushed, as that of a qemu-storage-daemon does for qcow2. */
export class ForgetfulServer implements NbdDisk {
  readonly blockSize = 512;
  readonly readOnly = false;
  /** What a crash leaves. */
  stable: Buffer;
  readonly socket: string;
  /** Of 127.0.0.1, instead of the socket; 0 until it is started, then one that is free. */
  port: number | undefined;
  /** A range without a byte that is set is a hole. */
  readonly contexts = [
    {
      name: NBD_BASE_ALLOCATION,
      status: async (offset: number, length: number) => {
        const isHole = this.#volatile.subarray(offset, offset + length).every((byte) => byte === 0);
        return [{ length, flags: isHole ? NbdState.hole | NbdState.zero : 0 }];
      },
    },
  ];
  flushes = 0;
  writes = 0;
  /** Called before each write is carried out. */
  onWrite: (offset: number) => void | Promise<void> = () => {};
  #volatile: Buffer;
  #server: NbdServer | undefined;
  readonly #clients = new Set<Socket>();
  #life = 0;

  constructor(socket: string, bytes: number) {
    this.socket = socket;
    this.stable = Buffer.alloc(bytes);
    this.#volatile = Buffer.alloc(bytes);
  }

  get size(): number {
    return this.stable.length;
  }

  /** The export has that many bytes from now on. */
  resize(bytes: number): void {
    this.stable = resized(this.stable, bytes);
    this.#volatile = resized(this.#volatile, bytes);
  }

  get clients(): number {
    return this.#clients.size;
  }

  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    this.#server = new NbdServer({ disk: this });
    this.#server.listener.on('connection', (client: Socket) => {
      this.#clients.add(client);
      client.on('close', () => this.#clients.delete(client));
    });
    const { listener } = this.#server;
    const where = this.port === undefined ? { path: this.socket } : { host: '127.0.0.1', port: this.port };
    await once(listener.listen(where), 'listening');
    if (this.port !== undefined) this.port = (listener.address() as AddressInfo).port;
  }

  /** It dies: nothing more is answered, and nothing is left of what was not flushed. */
  crash(): void {
    this.#life++;
    this.#server?.listener.close();
    for (const client of this.#clients) client.destroy();
    this.#volatile = Buffer.from(this.stable);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return Buffer.from(this.#volatile.subarray(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const life = this.#life;
    this.writes++;
    await this.onWrite(offset);
    if (life === this.#life) this.#volatile.set(data, offset);
  }

  async flush(): Promise<void> {
    this.flushes++;
    const life = this.#life;
    const written = Buffer.from(this.#volatile);
    // Others write meanwhile, which it need not cover.
    await new Promise((resolve) => setImmediate(resolve));
    if (life === this.#life) written.copy(this.stable);
  }

  async discard(): Promise<void> {}

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#volatile.fill(0, offset, offset + length);
  }
}

function resized(old: Buffer, bytes: number): Buffer {
  return Buffer.concat([old, Buffer.alloc(Math.max(0, bytes - old.length))]).subarray(0, bytes);
}
