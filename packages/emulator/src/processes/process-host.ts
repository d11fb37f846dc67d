import { createServer, type Server, type Socket } from 'node:net';
import { listenOnUnixSocket, type XenstoreTransport } from '@xenpv/xen-sys';
import { Grants } from '../machine/grants.js';
import { Machine, type MachineDomain, type OwnMachine } from '../machine/machine.js';
import { machines } from '../machine/machine-registry.js';
import { DomainMemory, type DomainSize } from '../machine/memory.js';
import { ProcessDoorbell } from '../machine/process-doorbell.js';
import { type DirectoryMachine, DomainMemoryFiles, HostDirectory, MachineWord } from './directory.js';
import { ServedThread } from './served-thread.js';
import { ServedPage } from './thread-page.js';

const MACHINE_PAGE = 'machine';

/**
 * The machine in a folder that other processes join. In come hypercalls and ends of threads; nothing that another process
 * does, its death at any instant included, leaves the tables half changed, a port bound or a page in use.
 */
export class ProcessHost extends Machine implements OwnMachine {
  readonly name: string;
  readonly directory: HostDirectory;
  readonly #connect: (domid: number) => XenstoreTransport;
  readonly #words: Int32Array;
  readonly #doorbell: ProcessDoorbell;
  readonly #server: Server;
  readonly #threads = new Set<ServedThread>();
  readonly #sockets = new Set<Socket>();
  readonly #files = new Map<number, { readonly files: DomainMemoryFiles; readonly size: DomainSize }>();
  #pages = 0;
  #memories = 0;
  #closed = false;

  private constructor(directory: HostDirectory, server: Server, connect: (domid: number) => XenstoreTransport) {
    directory.prepare();
    const page = directory.map(MACHINE_PAGE);
    super(page);
    this.name = directory.path;
    this.directory = directory;
    this.#connect = connect;
    this.#words = new Int32Array(page);
    this.#server = server;
    this.#doorbell = new ProcessDoorbell(this.#words, MachineWord.doorbell, directory.hostPipe);
    this.#doorbell.unref();
    this.#doorbell.listen(() => {
      for (const thread of this.#threads) thread.serve();
    });
    Atomics.store(this.#words, MachineWord.alive, 1);
    server.on('connection', (socket) => this.#welcome(socket));
    server.unref();
    this.#describe();
    machines.set(this.name, this);
  }

  /**
   * Makes `path` the folder of a new machine. Errors: EADDRINUSE another host has it, ENAMETOOLONG the path is too long
   * for sockets, ERR_NO_ADDON, or what the system says.
   */
  static async open(path: string, connect: (domid: number) => XenstoreTransport): Promise<ProcessHost> {
    const directory = new HostDirectory(path);
    directory.make();
    const server = createServer();
    await listenOnUnixSocket(server, directory.hostSocket, { op: 'emulator.open' });
    try {
      return new ProcessHost(directory, server, connect);
    } catch (error) {
      server.close();
      throw error;
    }
  }

  create(domid: number, size: DomainSize): MachineDomain {
    const files = new DomainMemoryFiles(this.directory, `${domid}-${this.#memories++}`);
    const domain = this.add(DomainMemory.create(domid, size, files, files.pipes));
    this.#files.set(domid, { files, size });
    this.#describe();
    return domain;
  }

  destroy(domid: number): void {
    const domain = this.find(domid);
    if (domain === undefined) return;
    this.tearDown(domain);
    this.forget(domid);
    this.#files.get(domid)?.files.unlink();
    this.#files.delete(domid);
    this.#describe();
  }

  override async connectXenstore(domid: number): Promise<XenstoreTransport> {
    return this.#connect(domid);
  }

  override shared(domid: number): DirectoryMachine {
    return { directory: this.directory.path, domid };
  }

  /** The threads of other processes, and of this one, that have joined. */
  get joined(): number {
    return this.#threads.size;
  }

  close(): void {
    if (this.#closed) return;
    for (const domain of this.domains()) this.destroy(domain.memory.domid);
    this.#closed = true;
    machines.delete(this.name);
    Atomics.store(this.#words, MachineWord.alive, 0);
    this.#doorbell.close();
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    this.directory.remove();
  }

  protected override grantsOf(memory: DomainMemory): Grants {
    return new Grants(memory, (ref) => {
      for (const { page } of this.#threads) if (page.isHeld(memory.domid, ref)) return true;
      return false;
    });
  }

  /** A thread that joins gets a page. Its socket is its life: the kernel closes it whatever the thread dies of. */
  #welcome(socket: Socket): void {
    const name = `thread-${this.#pages++}`;
    const thread = new ServedThread(this, new ServedPage(new Int32Array(this.directory.map(name))));
    this.#threads.add(thread);
    this.#sockets.add(socket);
    socket.unref();
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (!this.#threads.delete(thread) || this.#closed) return;
      thread.end();
      this.wakeAll();
      // The same holds for hypercalls.
      this.#doorbell.again();
      this.directory.unlink(name);
    });
    socket.resume();
    socket.write(`${JSON.stringify({ page: name })}\n`);
  }

  #describe(): void {
    if (this.#closed) return;
    const domains = [...this.#files].map(([domid, { files, size }]) => files.describe(domid, size));
    this.directory.write({ pid: process.pid, domains });
    Atomics.add(this.#words, MachineWord.generation, 1);
  }
}
