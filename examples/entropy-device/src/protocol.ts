import type { TreeSchema } from '@xenpv/xenstore';

/** The device's type: the folder below `backend/` and `device/` in xenstore. */
export const TYPE = 'vrng';

/** What a frontend writes into its directory. */
export const FRONTEND_KEYS = {
  'ring-ref': { type: 'gref' },
  'event-channel': { type: 'port' },
} satisfies TreeSchema;

/** What the backend publishes for its frontend. */
export const BACKEND_KEYS = { 'max-length': { type: 'uint' } } satisfies TreeSchema;

/** The most bytes that one request can have: a page. */
export const MAX_LENGTH = 4096;

/**
 * Where in a slot of the ring what is, in words of 32 bits. The frontend writes the first three; the answer is the status
 * behind them, 0 or a negative errno. Requests are answered in their order, so an answer lies in its request's own slot and
 * leaves it readable: a backend that was killed before it published the answer finds the request whole, and does it again.
 */
export const Slot = { id: 0, gref: 1, length: 2, status: 3 } as const;
export const SLOT_WORDS = 4;
