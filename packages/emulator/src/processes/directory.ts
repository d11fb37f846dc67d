import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { mapSparseFile } from '@xenpv/xen-sys';
import type { DomainSize, DomainSnapshot, MemorySource } from '../machine/memory.js';

/** Words of the machine's own page. */
export const MachineWord = {
  /** The machine's lock, which only the host takes. */
  lock: 0,
  /** 1 while the host lives. */
  alive: 1,
  /** Counts domains that came or went. */
  generation: 2,
  /** The doorbell of the host, which is rung for a hypercall. */
  doorbell: 16,
} as const;

const PAGE_BYTES = 4096;

/** A domain as other processes find it. */
interface DomainFiles {
  readonly domid: number;
  readonly size: DomainSize;
  /** That no other domain of this host ever has. */
  readonly name: string;
  /** Names of files. */
  readonly ram: string;
  readonly ramBytes: number;
  readonly tables: string;
  readonly tablesBytes: number;
}

/** What the shared data of a provider is when the machine lies in a folder. */
export interface DirectoryMachine {
  readonly directory: string;
  readonly domid: number;
}

/** What lies in the file `machine.json`. */
export interface MachineDescription {
  /** The host's process. */
  readonly pid: number;
  readonly domains: readonly DomainFiles[];
}

/**
 * The folder through which processes share an emulated machine: its memory as files, its doorbells as named pipes, the
 * host's socket, and xenstored's. Only its owner may enter it. It belongs on a tmpfs; elsewhere the system writes the
 * memory out now and then.
 */
export class HostDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = resolve(path);
  }

  /** Where a process joins, and what tells its end. */
  get hostSocket(): string {
    return join(this.path, 'host.sock');
  }

  /** Where programs ask the host for domains and disks. */
  get controlSocket(): string {
    return join(this.path, 'control.sock');
  }

  /** Where domain `domid` speaks to xenstored. */
  xenstoredSocket(domid: number): string {
    return join(this.path, domid === 0 ? 'xenstored.sock' : `xenstored-${domid}.sock`);
  }

  /** How the paths of the pipes of a domain's doorbells begin; `memory` is what its memory is named. */
  pipes(memory: string): string {
    return join(this.path, 'pipes', `${memory}-`);
  }

  /** Who has one open keeps it. */
  unlinkPipes(memory: string): void {
    const pipes = join(this.path, 'pipes');
    for (const name of readdirSync(pipes))
      if (name.startsWith(`${memory}-`)) rmSync(join(pipes, name), { force: true });
  }

  get hostPipe(): string {
    return join(this.path, 'pipes', 'host');
  }

  file(name: string): string {
    return join(this.path, 'memory', name);
  }

  /** Makes the folder, and removes what an earlier host left. The caller holds the host's socket. */
  prepare(): void {
    for (const folder of ['memory', 'pipes']) {
      rmSync(join(this.path, folder), { recursive: true, force: true });
      mkdirSync(join(this.path, folder), { mode: 0o700 });
    }
    rmSync(this.#description, { force: true });
  }

  /** Makes the folder itself, for its owner alone. */
  make(): void {
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
    chmodSync(this.path, 0o700);
  }

  remove(): void {
    for (const name of ['memory', 'pipes', 'machine.json']) {
      rmSync(join(this.path, name), { recursive: true, force: true });
    }
  }

  map(name: string, bytes = PAGE_BYTES): ArrayBuffer {
    return mapSparseFile(this.file(name), bytes).buffer;
  }

  unlink(name: string): void {
    rmSync(this.file(name), { force: true });
  }

  /** Replaced as a whole, so that a reader never sees half of it. */
  write(description: MachineDescription): void {
    writeFileSync(`${this.#description}.new`, JSON.stringify(description), { mode: 0o600 });
    renameSync(`${this.#description}.new`, this.#description);
  }

  /** Errors: ENOENT there is no host. */
  read(): MachineDescription {
    return JSON.parse(readFileSync(this.#description, 'utf8')) as MachineDescription;
  }

  /** A domain's memory, mapped into this process. */
  snapshot(domain: DomainFiles): DomainSnapshot {
    return {
      domid: domain.domid,
      size: domain.size,
      ram: this.map(domain.ram, domain.ramBytes),
      control: this.map(domain.tables, domain.tablesBytes),
      controlOffset: 0,
      pipes: this.pipes(domain.name),
    };
  }

  get #description(): string {
    return join(this.path, 'machine.json');
  }
}

/** The memory of one new domain, as files whose names no other domain ever had. */
export class DomainMemoryFiles implements MemorySource {
  readonly #directory: HostDirectory;
  readonly #name: string;
  #ramBytes = 0;
  #tablesBytes = 0;

  constructor(directory: HostDirectory, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /** How the paths of its doorbells' pipes begin. */
  get pipes(): string {
    return this.#directory.pipes(this.#name);
  }

  ram(bytes: number): ArrayBuffer {
    this.#ramBytes = bytes;
    return this.#directory.map(this.#ramName, bytes);
  }

  tables(bytes: number): { buffer: ArrayBuffer; offset: number } {
    this.#tablesBytes = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    return { buffer: this.#directory.map(this.#tablesName, this.#tablesBytes), offset: 0 };
  }

  describe(domid: number, size: DomainSize): DomainFiles {
    return {
      domid,
      size,
      name: this.#name,
      ram: this.#ramName,
      ramBytes: this.#ramBytes,
      tables: this.#tablesName,
      tablesBytes: this.#tablesBytes,
    };
  }

  /** Who has it mapped keeps it. */
  unlink(): void {
    this.#directory.unlink(this.#ramName);
    this.#directory.unlink(this.#tablesName);
    this.#directory.unlinkPipes(this.#name);
  }

  get #ramName(): string {
    return `${this.#name}.ram`;
  }

  get #tablesName(): string {
    return `${this.#name}.tables`;
  }
}
