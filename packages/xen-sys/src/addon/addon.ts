import { packageRoot } from '../package-root.js';
import { loadNativeBuild } from './native-build.js';

type Memory = ArrayBufferView;

/** native/descriptor.h: one open file. Everything returns 0 or more, or a negative errno. */
export interface Descriptor {
  /** The descriptor, or the negative errno of opening it. */
  readonly fd: number;
  read(into: Memory): number;
  write(from: Memory, bytes: number): number;
  ioctl(request: number, argument: Memory): number;
  ioctlWord(request: number, word: number): number;
  /** The same ioctl again and again, with what is in `argument` then. */
  bindIoctl(request: number, argument: Memory): () => number;
  /** See native/bound-call.h. */
  bindSleep(control: Int32Array, write: Memory, into: Memory, eventfds: Int32Array): () => number;
  /** The whole file, exclusively, until it is closed; EAGAIN. */
  lock(): number;
  reserve(bytes: number): number;
  map(bytes: number, writable: boolean, offset: number): ArrayBuffer | number;
  unmap(buffer: ArrayBufferLike): number;
  listen(into: Memory, onRead: (result: number) => void): number;
  listen(): number;
  keepAlive(keep: boolean): number;
  close(): number;
}

/** native/foreign-memory.h: libxenforeignmemory. */
export interface ForeignMemoryLibrary {
  readonly error: string;
  readonly errno: number;
  map(domid: number, writable: boolean, frames: Float64Array, errors: Int32Array): ArrayBuffer | number;
  unmap(buffer: ArrayBufferLike): number;
  close(): number;
}

interface Addon {
  readonly Descriptor: new (path: string, flags: number) => Descriptor;
  readonly ForeignMemory: new (library: string) => ForeignMemoryLibrary;
  addressOf(memory: Memory): number;
  /** See native/futex.h. */
  futexWait(words: Int32Array, index: number, expected: number, milliseconds: number): number;
  futexWake(words: Int32Array, index: number, count: number): number;
  makeFifo(path: string): number;
  /** See native/process.h. */
  forbidCoreDumps(): number;
  /** `wait`: for a receiver that has no room; otherwise it is EAGAIN. */
  sendDatagram(path: Uint8Array, data: Uint8Array, wait: boolean): number;
}

let addon: Addon | undefined;

/** The native addon of this package. Errors: those of {@link loadNativeBuild}. */
export function loadAddon(): Addon {
  addon ??= loadNativeBuild('@xenpv/xen-sys', packageRoot()) as Addon;
  return addon;
}
