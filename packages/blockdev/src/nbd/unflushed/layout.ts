/** Words of the head of the memory that the connections to one image share. */
export const LogWord = {
  magic: 0,
  /** Of 64 bytes, without the head: a power of two. */
  units: 1,
  /** Which image. */
  identity: 2,
  /** Mixed into every entry, so that no data looks like one. */
  nonce: 3,
  /** The places of the first entry, and behind the last one. */
  head: 4,
  tail: 5,
  /** Threads that note a write just now. */
  adding: 6,
  /** 1: writes are gone, and no flush has failed for it yet. */
  lost: 7,
  /** How often the server was lost, and up to which time the writes were sent again. */
  losses: 8,
  mended: 9,
  /** Who sends them again: its member number and 1, or 0. */
  mender: 10,
  /** Writes that were sent again the last time. */
  resent: 11,
  /** When the server is known to have written for us: seconds since 1970. */
  at: 12,
  /** What each connection does, from here on. */
  members: 16,
} as const;

/** Connections to one image at most: one for each thread. */
export const MEMBERS = 128;
