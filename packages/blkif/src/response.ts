import type { Abi } from './abi.js';

/* A response: id u64 (not aligned to 8 in x86_32, but first), operation u8, a byte of padding, status s16, padding. */

/**
 * Writes a whole response, `abi.responseWords` words, its padding zero. `operation` is the request's own; for an
 * indirect request the read or write inside it.
 */
export function encodeResponse(
  target: Int32Array,
  at: number,
  abi: Abi,
  idLow: number,
  idHigh: number,
  operation: number,
  status: number,
): void {
  target[at] = idLow;
  target[at + 1] = idHigh;
  target[at + 2] = (operation & 0xff) | (status << 16);
  if (abi.responseWords === 4) target[at + 3] = 0;
}

/** The low 32 bits of the id of a response, as a signed word. */
export function responseIdLow(words: Int32Array, at: number): number {
  return words[at];
}

/** The high 32 bits of the id of a response. */
export function responseIdHigh(words: Int32Array, at: number): number {
  return words[at + 1];
}

/** The operation that was answered. */
export function responseOperation(words: Int32Array, at: number): number {
  return words[at + 2] & 0xff;
}

/** The status, a {@link BlkifStatus}. */
export function responseStatus(words: Int32Array, at: number): number {
  return words[at + 2] >> 16;
}
