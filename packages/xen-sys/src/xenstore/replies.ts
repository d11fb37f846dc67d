/** Of struct xsd_sockmsg (io/xs_wire.h): u32 type, request, transaction, payload length. */
const HEADER_BYTES = 16;
const LENGTH_AT = 12;
const WATCH_EVENT = 15;

/** Counts the replies in a stream of messages: everything but watch events. */
export class ReplyCounter {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #payloadLeft = 0;

  /** How many replies end in this chunk. */
  push(chunk: Uint8Array): number {
    let replies = 0;
    for (let at = 0; at < chunk.length; ) {
      at += this.#headerBytes < HEADER_BYTES ? this.#takeHeader(chunk, at) : this.#takePayload(chunk.length - at);
      if (this.#headerBytes < HEADER_BYTES || this.#payloadLeft > 0) continue;
      this.#headerBytes = 0;
      if (this.#header.readUInt32LE(0) !== WATCH_EVENT) replies++;
    }
    return replies;
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === HEADER_BYTES) this.#payloadLeft = this.#header.readUInt32LE(LENGTH_AT);
    return taken;
  }

  #takePayload(available: number): number {
    const taken = Math.min(this.#payloadLeft, available);
    this.#payloadLeft -= taken;
    return taken;
  }
}
