import type { Domid } from './numbers.js';
/** Frames of another domain, mapped by frame number (for a privileged domain only). */
export interface ForeignMapping {
  readonly buffer: ArrayBufferLike;
  readonly offsets: Float64Array;
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
