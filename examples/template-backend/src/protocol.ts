import type { TreeSchema } from '@xenpv/xenstore';

/** The device's type: the folder below `backend/` and `device/` in xenstore. */
export const TYPE = 'vtemplate';

/** What a frontend writes into its directory. */
export const FRONTEND_KEYS = {
  'page-ref': { type: 'gref' },
  'event-channel': { type: 'port' },
} satisfies TreeSchema;

/** What a toolstack writes into the backend's directory. */
export const CONFIG = { factor: { type: 'uint', default: 2, max: 1000 } } satisfies TreeSchema;

/** What the backend publishes for its frontend. */
export const BACKEND_KEYS = { 'max-question': { type: 'uint' } } satisfies TreeSchema;

/** Where in the shared page what is, in bytes; each is a u32. The number of a question goes up by one with each. */
export const Page = { asked: 0, question: 4, answered: 8, answer: 12 } as const;
