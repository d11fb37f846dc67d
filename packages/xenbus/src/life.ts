/** What this process holds of a device, and so what it may do with it. */
export type Phase =
  /** Nothing: not opened yet, or released again. */
  | 'idle'
  /** The handler is open and its keys are published. */
  | 'prepared'
  /** The handler serves the frontend. */
  | 'connected'
  /** The frontend is left as it was served, and cannot be served now: it is tried again. A handler serves nothing. */
  | 'held'
  /** The handler could not be opened. Nothing is tried again until the toolstack removes the device. */
  | 'failed'
  /** Everything is released, as the toolstack wished; the directory is still there. */
  | 'removed'
  /** The directory was deleted. The end: nothing is read or written any more. */
  | 'gone';

/** What is wanted of a device next. */
export type Wish =
  /** Nothing until something changes. */
  | 'rest'
  /** One more look at the store. */
  | 'look'
  /** To release everything and leave the store as it is. It is never taken back. */
  | 'stop';

/** What happens to a device, by what it leads to. Where a phase is not named, it stays. */
const TRANSITIONS = {
  /** The handler is open. */
  opened: { idle: 'prepared' },
  /** Opening failed, or its keys could not be published. */
  openingFailed: { idle: 'failed', prepared: 'failed' },
  /** The handler serves the frontend's rings. */
  served: { prepared: 'connected' },
  /** The frontend cannot be served now, though it was before. */
  held: { idle: 'held', prepared: 'held', connected: 'held' },
  /** It is tried again. */
  retried: { held: 'idle' },
  /** The handler is about to let go of the frontend. */
  disconnected: { connected: 'prepared' },
  /** The handler is about to be closed. */
  released: { prepared: 'idle', connected: 'idle', held: 'idle', failed: 'idle', removed: 'idle' },
  /** Released for good, because the toolstack is done with the device. */
  removed: { idle: 'removed' },
  /** The directory is gone. */
  forgotten: { idle: 'gone', prepared: 'gone', connected: 'gone', held: 'gone', failed: 'gone', removed: 'gone' },
} as const satisfies Record<string, Partial<Record<Phase, Phase>>>;

export type Transition = keyof typeof TRANSITIONS;

/** The phase after something happened. */
export function nextPhase(phase: Phase, transition: Transition): Phase {
  const leadsTo: Partial<Record<Phase, Phase>> = TRANSITIONS[transition];
  return leadsTo[phase] ?? phase;
}

/** A phase as {@link nextAction} sees it. */
export function holdings(phase: Phase): {
  readonly prepared: boolean;
  readonly connected: boolean;
  readonly held: boolean;
  readonly failed: boolean;
  readonly removed: boolean;
} {
  return {
    prepared: phase === 'prepared' || phase === 'connected',
    connected: phase === 'connected',
    held: phase === 'held',
    failed: phase === 'failed',
    removed: phase === 'removed',
  };
}
