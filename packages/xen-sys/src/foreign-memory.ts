import type { Domid } from './numbers.js';
/** Frames of another domain, mapped by frame number (for a privileged domain only). */
export interface ForeignMapping {
  /** Native: the frames and nothing else, detached by the unmapping. Emulator: the whole RAM of the domain. */
  readonly buffer: ArrayBufferLike;
  /** Where in `buffer` each frame begins, in bytes. Memory of a frame that has an error must not be touched. */
  readonly offsets: Float64Array;
  /** Whether the frames follow each other in `buffer`, in the order asked for. Native mappings always do. */
  readonly contiguous: boolean;
  /** 0 or a negative errno for each frame. */
  readonly errors: Int32Array;
}

/** Mapping by frame number, which consoles and framebuffers need; block does not. */
export interface ForeignMemory extends AsyncDisposable {
  /** Maps frames of `domid`. A frame that cannot be mapped has its error set; all failing throws the first. */
  map(domid: Domid, frames: ArrayLike<number>, options: { writable: boolean }): ForeignMapping;
  /** Unmaps; the memory must not be touched afterwards. */
  unmap(mapping: ForeignMapping): void;
  /** Unmaps what is left and closes the device. Harmless when repeated. */
  close(): void;
}
