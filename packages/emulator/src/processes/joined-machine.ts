import { createConnection, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { GrantStatus, nativeProvider, XenSysError, type XenstoreTransport } from '@xenpv/xen-sys';
import { onLines } from '../lines.js';
import type { Grants } from '../machine/grants.js';
import { type GrantAccess, Machine, type MachineDomain } from '../machine/machine.js';
import { machines } from '../machine/machine-registry.js';
import type { DomainMemory } from '../machine/memory.js';
import { ProcessDoorbell } from '../machine/process-doorbell.js';
import { type DirectoryMachine, HostDirectory, MachineWord } from './directory.js';
import { HeldGrants } from './held-grants.js';
import { Hypercall, LIST_MAX, ThreadPage } from './thread-page.js';

/** How long the host may take to answer a process that joins. */
const WELCOME_TIMEOUT_MS = 10_000;

/** The machine in a folder, as a thread sees it that is not the host's. */
class JoinedMachine extends Machine {
  readonly name: string;
  readonly #directory: HostDirectory;
  readonly #words: Int32Array;
  readonly #page: ThreadPage;
  /** Open for as long as the thread lives: its end is how the host hears of it. */
  readonly #life: Socket;
  #generation = 0;

  constructor(directory: HostDirectory, page: string, life: Socket) {
    const machine = directory.map('machine');
    super(machine);
    this.name = directory.path;
    this.#directory = directory;
    this.#words = new Int32Array(machine);
    this.#life = life;
    const doorbell = new ProcessDoorbell(this.#words, MachineWord.doorbell, directory.hostPipe);
    this.#page = new ThreadPage(new Int32Array(directory.map(page)), {
      ring: () => doorbell.ring(),
      isHostAlive: () => this.isHostAlive,
    });
  }

  get isHostAlive(): boolean {
    if (this.#life.destroyed || Atomics.load(this.#words, MachineWord.alive) !== 1) return false;
    return isAlive(this.#directory.read().pid);
  }

  override find(domid: number): MachineDomain | undefined {
    const known = super.find(domid);
    if (known !== undefined || !this.#look()) return known;
    return super.find(domid);
  }

  override connectXenstore(domid: number, signal?: AbortSignal): Promise<XenstoreTransport> {
    const xenstorePath = this.#directory.xenstoredSocket(domid);
    return nativeProvider({ xenstorePath }).connectXenstore({ signal });
  }

  override shared(domid: number): DirectoryMachine {
    return { directory: this.name, domid };
  }

  override openHandle({ memory }: MachineDomain): number {
    return this.#page.call(Hypercall.openHandle, [memory.domid]);
  }

  override closeHandle({ memory }: MachineDomain, handle: number): void {
    if (memory.alive) this.#page.call(Hypercall.closeHandle, [memory.domid, handle]);
  }

  override bindUnbound({ memory }: MachineDomain, handle: number, remote: MachineDomain): number {
    return this.#page.call(Hypercall.bindUnbound, [memory.domid, handle, remote.memory.domid]);
  }

  override bindInterdomain({ memory }: MachineDomain, handle: number, remote: MachineDomain, port: number): number {
    return this.#page.call(Hypercall.bindInterdomain, [memory.domid, handle, remote.memory.domid, port]);
  }

  override closePort({ memory }: MachineDomain, port: number): void {
    this.#page.call(Hypercall.closePort, [memory.domid, port]);
  }

  override mapGrants(
    domain: MachineDomain,
    granter: MachineDomain,
    refs: Uint32Array,
    frames: Uint32Array,
    { writable }: GrantAccess,
  ): number {
    const args = [domain.memory.domid, granter.memory.domid, Number(writable)];
    for (let at = 0; at < refs.length; at += LIST_MAX) {
      const part = refs.slice(at, at + LIST_MAX);
      const status = this.#page.call(Hypercall.mapGrants, args, part);
      if (status < 0) {
        this.unmapGrants(domain, granter, refs.subarray(0, at));
        frames[0] = part[0];
        return status;
      }
      frames.set(part, at);
    }
    return GrantStatus.okay;
  }

  override unmapGrants(domain: MachineDomain, granter: MachineDomain, refs: Uint32Array): void {
    if (!domain.memory.alive || !granter.memory.alive) return;
    const args = [domain.memory.domid, granter.memory.domid];
    for (let at = 0; at < refs.length; at += LIST_MAX) {
      this.#page.call(Hypercall.unmapGrants, args, refs.slice(at, at + LIST_MAX));
    }
  }

  override grantNew({ memory }: MachineDomain, user: number, refs: Uint32Array, { writable }: GrantAccess): number {
    // Frames in a row cannot be had in parts.
    if (refs.length > LIST_MAX) return -2;
    return this.#page.call(Hypercall.grantNew, [memory.domid, user, Number(writable)], refs);
  }

  override endGrants({ memory }: MachineDomain, refs: Uint32Array): void {
    for (let at = 0; at < refs.length; at += LIST_MAX) {
      this.#page.call(Hypercall.endGrants, [memory.domid], refs.slice(at, at + LIST_MAX));
    }
  }

  protected override grantsOf(memory: DomainMemory): Grants {
    return new HeldGrants(memory, this.#page, (domid, ref) => this.#page.call(Hypercall.freeEnded, [domid, ref]));
  }

  /** Takes notice of domains that came or went; false if there was nothing new. */
  #look(): boolean {
    const generation = Atomics.load(this.#words, MachineWord.generation);
    if (generation === this.#generation || Atomics.load(this.#words, MachineWord.alive) !== 1) return false;
    this.#generation = generation;
    this.forgetDead();
    const { domains } = this.#directory.read();
    for (const domain of domains) {
      if (super.find(domain.domid) === undefined) this.add(this.#directory.snapshot(domain));
    }
    return true;
  }
}

const joined = new Map<string, Promise<JoinedMachine>>();

/**
 * The machine in a folder, as this thread sees it; a thread joins once. Errors: ERR_NO_DEVICE there is no host,
 * or it does not answer; ERR_NO_ADDON.
 */
export async function joinMachine(folder: string): Promise<Machine> {
  const path = resolve(folder);
  // On the host's own thread a hypercall would wait for itself.
  const own = machines.get(path);
  if (own !== undefined) return own;
  // What is waited for by the first who asks is waited for by all: nothing may come between the look and the note.
  const known = joined.get(path);
  const machine = known === undefined ? join(path) : known.then((it) => (it.isHostAlive ? it : join(path)));
  joined.set(path, machine);
  machine.catch(() => {
    if (joined.get(path) === machine) joined.delete(path);
  });
  return machine;
}

async function join(path: string): Promise<JoinedMachine> {
  const directory = new HostDirectory(path);
  const life = createConnection(directory.hostSocket);
  try {
    const { page } = JSON.parse(await firstLine(life)) as { page: string };
    life.unref();
    return new JoinedMachine(directory, page, life);
  } catch (cause) {
    life.destroy();
    throw new XenSysError(
      'ERR_NO_DEVICE',
      'emulator.join',
      `no emulated host answers in ${directory.path}; start one there, or name the folder of one that runs`,
      { path: directory.path, cause },
    );
  }
}

function firstLine(socket: Socket): Promise<string> {
  return new Promise((settle, reject) => {
    socket.setTimeout(WELCOME_TIMEOUT_MS, () => reject(new Error(`no answer in ${WELCOME_TIMEOUT_MS} ms`)));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the host closed the connection')));
    onLines(socket, (line) => {
      socket.setTimeout(0);
      settle(line);
    });
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
