/** `ERR_RING_MEMORY`: the memory cannot hold such a ring. `ERR_RING_OVERFLOW`: an index is further ahead than the ring is long. */
export type RingErrorCode = 'ERR_RING_MEMORY' | 'ERR_RING_OVERFLOW';

/** A ring that cannot be set up or attached to, or that its own side used wrongly. Never thrown for what a peer sends later. */
export class RingError extends Error {
  override readonly name = 'RingError';
  readonly code: RingErrorCode;
  /** What was tried: `create`, `attach`, `skipTaken`, `putRequest`, `putResponse`. */
  readonly op: string;

  constructor(code: RingErrorCode, op: string, message: string) {
    super(message);
    this.code = code;
    this.op = op;
  }
}
