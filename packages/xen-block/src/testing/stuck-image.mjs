import { attachImage as attach } from '@xenpv/blockdev';

/** Blocks its thread until the first word of `gate` is no longer 0: as a call to storage that hangs. */
export async function attachImage({ gate, data }) {
  Atomics.wait(new Int32Array(gate), 0, 0);
  return attach(data);
}
