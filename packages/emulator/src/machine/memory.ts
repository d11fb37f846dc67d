/**
 * A domain is two pieces of shared memory: its RAM, and a control area with its tables. In comes a snapshot, which names
 * the two; every thread makes its own views of it. All state is in the shared words, none in the fields of a class, and
 * where a table lies follows from the domain's size alone, so that all threads agree. An area is never used again for
 * another domain: a thread may still look at it.
 */
import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import { DOORBELL_WORDS, type Doorbell } from './doorbell.js';
import { PageViews } from './page-views.js';
import { ProcessDoorbell } from './process-doorbell.js';
import { ThreadDoorbell } from './thread-doorbell.js';

/** How large a domain is. */
export interface DomainSize {
  /** Pages of RAM. */
  readonly pages: number;
  /** Grant references, the reserved ones included. */
  readonly grants: number;
  /** Event-channel ports, port 0 included, a multiple of 32. */
  readonly ports: number;
  /** Open event-channel handles. */
  readonly handles: number;
}

/** What a domain's memory is, on any thread. Between threads of a process it is sent as it is, shared and not copied. */
export interface DomainSnapshot {
  readonly domid: number;
  readonly size: DomainSize;
  readonly ram: ArrayBufferLike;
  readonly control: ArrayBufferLike;
  /** Where in `control` the domain's area begins, in bytes. */
  readonly controlOffset: number;
  /** How the paths of its doorbells' pipes begin, where other processes see the domain too. */
  readonly pipes?: string | undefined;
}

/** Zeroed memory for domains. */
export interface MemorySource {
  /** A domain's RAM. */
  ram(bytes: number): ArrayBufferLike;
  /** An area for a domain's tables, and where in it they begin. */
  tables(bytes: number): { readonly buffer: ArrayBufferLike; readonly offset: number };
}

/** Words of one grant entry: flags and count, frame, next free. */
export const GRANT_WORDS = 3;
/** Words of one port: state, remote domain, remote port, handle. */
export const PORT_WORDS = 4;
/** Words of one event-channel handle: state and a doorbell, alone on its cache line. */
export const HANDLE_WORDS = 16;
/** Where in a handle its doorbell is. */
const HANDLE_DOORBELL = 16 - 2 * DOORBELL_WORDS;

/** Words at the start of the control area. */
export const Header = {
  /** 1 while the domain lives. */
  alive: 0,
  /** The {@link SharedLock} of grants and frames. */
  lock: 1,
  /** First grant entry never used. */
  grantsTouched: 2,
  /** First of the chain of freed grant entries, 0 none. */
  grantsFree: 3,
  /** First frame never used, hence still zero. */
  framesTouched: 4,
  /** Where to begin looking for a free frame. */
  frameHint: 5,
  /** Grant entries in use. */
  grantsUsed: 6,
  /** 1 if misuse of memory is to be found. */
  strict: 7,
  /** Writes that were found where nobody may write, and the frame and byte of the first. */
  misuses: 8,
  misusedFrame: 9,
  misusedByte: 10,
  words: 16,
} as const;

/** Where in the control area each table begins, in words. */
interface Layout {
  readonly frames: number;
  readonly pending: number;
  readonly masked: number;
  readonly ports: number;
  readonly handles: number;
  readonly grants: number;
  readonly words: number;
}

/** Bytes of a domain's tables. */
function tablesBytes(size: DomainSize): number {
  return layoutOf(size).words * 4;
}

/** The grants come last: they are the largest table, and the operating system commits only what is touched. */
function layoutOf(size: DomainSize): Layout {
  const frames = Header.words;
  const pending = frames + Math.ceil(size.pages / 32);
  const masked = pending + size.ports / 32;
  const ports = masked + size.ports / 32;
  const handles = Math.ceil((ports + size.ports * PORT_WORDS) / HANDLE_WORDS) * HANDLE_WORDS;
  const grants = handles + size.handles * HANDLE_WORDS;
  return { frames, pending, masked, ports, handles, grants, words: grants + size.grants * GRANT_WORDS };
}

/** One thread's views of a domain's RAM and tables. */
export class DomainMemory {
  readonly domid: number;
  readonly size: DomainSize;
  readonly ram: ArrayBufferLike;
  /** The RAM for copying. */
  readonly views: PageViews;
  /** Everything but the RAM, as 32-bit words. */
  readonly control: Int32Array;
  readonly at: Layout;
  readonly #pipes: string | undefined;
  /** Makes doorbells of another kind than the usual. To be set before any is made. */
  doorbells: ((words: Int32Array, at: number, handle: number) => Doorbell) | undefined;

  constructor(snapshot: DomainSnapshot) {
    this.domid = snapshot.domid;
    this.size = snapshot.size;
    this.ram = snapshot.ram;
    this.views = new PageViews(snapshot.ram, 0, snapshot.size.pages * XEN_PAGE_SIZE);
    this.at = layoutOf(snapshot.size);
    this.control = new Int32Array(snapshot.control, snapshot.controlOffset, this.at.words);
    this.#pipes = snapshot.pipes;
  }

  static create(domid: number, size: DomainSize, source: MemorySource, pipes?: string): DomainMemory {
    const { buffer, offset } = source.tables(tablesBytes(size));
    const ram = source.ram(size.pages * XEN_PAGE_SIZE);
    const memory = new DomainMemory({ domid, size, ram, control: buffer, controlOffset: offset, pipes });
    Atomics.store(memory.control, Header.alive, 1);
    return memory;
  }

  /** A view of the doorbell of a handle. */
  doorbell(handle: number): Doorbell {
    const at = this.at.handles + handle * HANDLE_WORDS + HANDLE_DOORBELL;
    if (this.doorbells !== undefined) return this.doorbells(this.control, at, handle);
    return this.#pipes === undefined
      ? new ThreadDoorbell(this.control, at)
      : new ProcessDoorbell(this.control, at, `${this.#pipes}${handle}`);
  }

  get alive(): boolean {
    return Atomics.load(this.control, Header.alive) === 1;
  }

  /** Whether misuse of this memory is to be found. */
  get strict(): boolean {
    return this.control[Header.strict] === 1;
  }

  /** Has misuse found from now on, before any of it is used. */
  beStrict(): void {
    this.control[Header.strict] = 1;
  }

  /** Marks the domain destroyed, for every thread. */
  kill(): void {
    Atomics.store(this.control, Header.alive, 0);
  }

  snapshot(): DomainSnapshot {
    return {
      domid: this.domid,
      size: this.size,
      ram: this.ram,
      control: this.control.buffer,
      controlOffset: this.control.byteOffset,
      pipes: this.#pipes,
    };
  }
}
