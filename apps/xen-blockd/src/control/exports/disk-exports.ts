/** Disks of guests, lent over NBD to programs that copy them. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ImageDisk, nbdDiskOf } from '@xenpv/blockdev';
import { NBD_MAX_STRING, type NbdContext, NbdServer } from '@xenpv/nbd';
import { QmpError } from '@xenpv/qmp';
import type { Borrower, LentImage } from '../../images/lent-image.js';
import { listenPrivately } from '../../unix-socket.js';
import { isQemuId } from '../device-ids.js';
import type { NbdListenAddress } from './nbd-address.js';

/** Each may have 64 MiB in flight, and half of that unread: QEMU's 100 are too many beside guests. */
const MOST_CLIENTS = 16;
/** As QEMU's. */
const HANDSHAKE_SECONDS = 10;
/** Storage that hangs must not keep the answer to nbd-server-stop. */
const STOP_MS = 5000;

export interface NbdServerChoice {
  /** Clients at once; 0 for any number. */
  readonly mostClients?: number | undefined;
  /** For a client to choose its export; 0 for as long as it likes. */
  readonly handshakeSeconds?: number | undefined;
}

export interface NewExport {
  readonly id: string;
  /** As clients of NBD ask for it. */
  readonly name: string;
  readonly description?: string | undefined;
  /** Of the disk's image. */
  readonly node: string;
  readonly image: LentImage;
  /** Clients may write. The image is the export's alone then. */
  readonly writable?: boolean | undefined;
  /** At its end, of an image that no disk has. */
  readonly close?: (() => Promise<void>) | undefined;
  /** What clients are told besides data and holes. The export ends when it is lost, and disposes of it. */
  readonly status?: ExportStatus | undefined;
}

export interface ExportStatus extends AsyncDisposable {
  readonly contexts: readonly NbdContext[];
  readonly lost: Promise<void>;
}

/** QEMU's BlockExportInfo. */
export interface ExportInfo {
  readonly id: string;
  readonly type: 'nbd';
  readonly 'node-name': string;
  readonly 'shutting-down': boolean;
}

/** The one NBD server that clients of the control socket start, and the exports that they add. */
export class DiskExports implements AsyncDisposable {
  readonly #tellDeleted: (id: string) => void;
  readonly #exports = new Map<string, DiskExport>();
  #server: NbdServer | undefined;
  /** The server takes exports. */
  #isRunning = false;
  #starting: Promise<void> = Promise.resolve();
  #isOver = false;

  /** `tellDeleted` hears of each export that is gone, however it ended. */
  constructor(tellDeleted: (id: string) => void) {
    this.#tellDeleted = tellDeleted;
  }

  /** A Unix socket is for the owner of this process alone. Errors: QmpError, there is one, or the daemon ends; of listening. */
  async start(address: NbdListenAddress, choice: NbdServerChoice): Promise<void> {
    if (this.#isOver) throw QmpError.refusal('the daemon ends', 'DeviceNotActive');
    if (this.#server) throw QmpError.refusal('NBD server already running');
    const { mostClients = MOST_CLIENTS, handshakeSeconds = HANDSHAKE_SECONDS } = choice;
    const options = {
      mostClients: mostClients || undefined,
      handshakeMs: handshakeSeconds ? 1000 * handshakeSeconds : undefined,
      // Of several disks none is what somebody means who does not say which.
      defaultExport: false,
    };
    this.#server = new NbdServer({}, options);
    const listening = listen(this.#server, address);
    this.#starting = listening.catch(() => {});
    try {
      await listening;
      this.#isRunning = true;
    } catch (error) {
      this.#server = undefined;
      throw error;
    }
  }

  /** Error: QmpError, there is no server. */
  mustRun(): void {
    this.#running();
  }

  /** Errors: QmpError. */
  add(wanted: NewExport): void {
    const { id, name, description, node, image, status } = wanted;
    const server = this.#running();
    if (!isQemuId(id)) throw QmpError.refusal('Invalid block export id');
    if (this.#exports.has(id)) throw QmpError.refusal(`Block export id '${id}' is already in use`);
    if (server.has(name)) throw QmpError.refusal(`NBD server already has export named '${name}'`);
    checkLength('export name', name);
    checkLength('description', description ?? '');
    const added = new DiskExport({ ...wanted, server }, () => {
      this.#exports.delete(id);
      this.#tellDeleted(id);
    });
    if (!image.lend(added)) throw QmpError.refusal(`the image of ${node} is being closed`, 'DeviceNotActive');
    this.#exports.set(id, added);
    server.add(name, added.disk, { description });
    void status?.lost.then(() => added.end());
  }

  /** Begins to end an export, and hangs up on its clients. `safe`: not if it has any. Errors: QmpError. */
  remove(id: string, mode: 'safe' | 'hard'): void {
    const found = this.#exports.get(id);
    if (!found) throw QmpError.refusal(`Export '${id}' is not found`);
    if (found.isEnding) throw QmpError.refusal(`Export '${id}' is already shutting down`);
    if (mode === 'safe' && found.clients > 0) {
      throw QmpError.refusal(`export '${id}' still in use: mode 'hard' disconnects its clients`);
    }
    void found.end();
  }

  /** Ends all exports, and the server. Error: QmpError, there is none. */
  stop(): Promise<void> {
    return this.#stop(this.#running());
  }

  get all(): ExportInfo[] {
    return [...this.#exports.values()].map(({ id, node, isEnding }) => ({
      ...{ id, type: 'nbd', 'node-name': node, 'shutting-down': isEnding },
    }));
  }

  async #stop(server: NbdServer): Promise<void> {
    // Until its socket is free nobody starts another one.
    this.#isRunning = false;
    const exports = [...this.#exports.values()];
    const ended = Promise.all([...exports.map((each) => each.end()), server.close()]);
    await Promise.race([ended, sleep(STOP_MS, undefined, { ref: false })]);
    this.#server = undefined;
  }

  #running(): NbdServer {
    if (!this.#server || !this.#isRunning) throw QmpError.refusal('NBD server not running');
    return this.#server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#starting;
    if (this.#server && this.#isRunning) await this.#stop(this.#server);
  }
}

interface ServedExport extends NewExport {
  readonly server: NbdServer;
}

/** An image that is read, until somebody ends that, or the image itself ends. */
class DiskExport implements Borrower {
  readonly disk: ImageDisk;
  readonly #served: ServedExport;
  readonly #gone: () => void;
  #ended: Promise<void> | undefined;

  constructor(served: ServedExport, gone: () => void) {
    this.#served = served;
    this.#gone = gone;
    this.disk = nbdDiskOf(served.image, { readOnly: !served.writable, contexts: served.status?.contexts });
  }

  get id(): string {
    return this.#served.id;
  }

  get node(): string {
    return this.#served.node;
  }

  get isEnding(): boolean {
    return this.#ended !== undefined;
  }

  get clients(): number {
    return this.#served.server.clientsOf(this.#served.name);
  }

  end(why?: 'closing' | 'resized'): Promise<void> {
    // Only then: to give up concerns the guest's requests too.
    if (why === 'closing') this.disk.giveUp();
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    const { server, name, image, status, close } = this.#served;
    await server.remove(name);
    await this.disk[Symbol.asyncDispose]();
    await status?.[Symbol.asyncDispose]();
    image.takeBack(this);
    await close?.().catch(() => {});
    this.#gone();
  }
}

async function listen({ listener }: NbdServer, address: NbdListenAddress): Promise<void> {
  if ('path' in address) return listenPrivately(listener, address.path);
  const { host, port } = address;
  listener.listen(port, host);
  try {
    await once(listener, 'listening');
  } catch (error) {
    throw QmpError.refusal(`cannot listen on ${host}:${port}: ${(error as Error).message}`);
  }
}

function checkLength(what: string, text: string): void {
  if (Buffer.byteLength(text) > NBD_MAX_STRING) throw QmpError.refusal(`${what} '${text.slice(0, 40)}…' too long`);
}
