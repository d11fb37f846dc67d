/** `larger` with the contents of `old`. */
export function grown<T extends Int32Array | Uint8Array | Int8Array | Uint16Array | Float64Array>(
  old: T,
  larger: T,
): T {
  larger.set(old);
  return larger;
}
