/**
 * `ERR_RING_MEMORY`: the memory cannot hold such a ring. `ERR_RING_OVERFLOW`: an index is further ahead than the ring
 * is long.
 */
export type RingErrorCode = 'ERR_RING_MEMORY' | 'ERR_RING_OVERFLOW';

/** What was tried. */
export type RingErrorOp = 'create' | 'attach' | 'skipTaken' | 'put' | 'putRequest' | 'putResponse';

/** On every RingError, whichever copy of this package it comes from: ES modules, CommonJS, another version. */
const BRAND = Symbol.for('@xenpv/ring.RingError');

/**
 * A ring that cannot be set up or attached to, or that its own side used wrongly. Never thrown for what a peer sends
 * later.
 */
export class RingError extends Error {
  /** The same for all; `instanceof` also knows the errors of another copy of this package. */
  override readonly name = 'RingError';
  /** Whether the memory does not fit, or what was asked for goes beyond the ring. */
  readonly code: RingErrorCode;
  /** The method, by its name; `create` for laying a ring over memory. */
  readonly op: RingErrorOp;
  /** A ring is memory, and has no path. */
  readonly path = undefined;

  constructor(code: RingErrorCode, op: RingErrorOp, message: string) {
    super(message);
    this.code = code;
    this.op = op;
  }

  static {
    Object.defineProperty(RingError.prototype, BRAND, { value: true });
  }

  /** Holds for the errors of every copy of this package; for a class derived from this one, as usual. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: derived classes inherit this method.
    if (this !== RingError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return value instanceof Error && BRAND in value;
  }
}
