/** What stops the program. */
export const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;

/** The listeners are of the program's first file; who takes over from them is in another, which is loaded later. */
const EARLY = Symbol.for('xen-blockd:early-stop');

type Listener = (() => void) & { [EARLY]?: true };

/** Marks the listener that ends a process which serves nothing yet. */
export function markEarlyStop(listener: Listener): void {
  listener[EARLY] = true;
}

/** From now on somebody else takes the signals that stop. */
export function leaveStopSignals(): void {
  for (const name of STOP_SIGNALS) {
    for (const listener of process.listeners(name) as Listener[]) if (listener[EARLY]) process.off(name, listener);
  }
}
